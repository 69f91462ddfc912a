"""Test the path in sequence on images that chose nothing; stop at the first that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from estimators.record import Record
from theory import Certificate
from vlm_bridge.data import Item, image_hashes
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.certify import certify
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.path import RUNGS, Step
from vlm_bridge.selection.tuning import tuned_path, tuned_source


@dataclass(frozen=True)
class CertifiedPlan(Record):
    """The largest plan on the path that was certified, and the path.

    Attributes:
        plan: skips nothing where not even the first step was certified.
        certificate: of that plan, the search paid for; None where it skips nothing.
        path: the steps, in the order they were to be tested.
        certificates: of the steps tested, each as if it were the only one, in that order; all
            hold but perhaps the last.
    """

    plan: SkipPlan
    certificate: Certificate | None
    path: tuple[Step, ...]
    certificates: tuple[Certificate, ...]


def certify_path(
    path: Sequence[Step], certify_one: Callable[[SkipPlan], Certificate], *, empty: SkipPlan
) -> CertifiedPlan:
    """Fixed-sequence testing: each step at the full delta, until one does not hold.

    The null hypothesis of a step is "its loss is above epsilon". A wrong promise needs the first
    true null in the order to be rejected, which happens with probability at most delta; so
    whichever certified plan is taken, its promise is wrong with probability at most delta, however
    many steps there are. What is promised is epsilon: a step's own bound, which may lie below it,
    is good for a plan that was not chosen by it, so it stands in `certificates` alone.

    Args:
        path: in an order fixed without the certification images.
        certify_one: a certificate at level delta on those images.
        empty: the plan that skips nothing.

    Source:
        Maurer, Hothorn and Lehmacher 1995; Angelopoulos et al. 2021, arXiv 2110.01052, section 2.2;
        why the bound is epsilon: Hsu and Berger 1999, JASA 94, stepwise confidence intervals.
    """
    plan, found = empty, None
    made: list[Certificate] = []
    for step in path:
        made.append(certify_one(step.plan))
        if not made[-1].holds:
            break
        plan, found = step.plan, made[-1]
    if found is not None:
        held = sum(one.holds for one in made)
        said = f"tested in a fixed sequence: step {held} of {len(path)}, and all before it hold"
        found = replace(found, bound=found.epsilon, checked=(*found.checked, said))
    return CertifiedPlan(plan, found, tuple(path), tuple(made))


def search(
    vlm: VLM,
    candidates: Sequence[SkipPlan],
    tuning: Iterable[Item],
    certification: Iterable[Item],
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    quantity: str = "disagreement",
    method: str = "auto",
    rungs: Sequence[float] = RUNGS,
    batch_size: int = 16,
    max_new_tokens: int = 8,
    checkpoint: Path | None = None,
) -> CertifiedPlan:
    """The largest of many candidate plans whose loss is certified, the search paid for.

    Tuning images make a path (`tuned_path`), certification images test it in sequence
    (`certify_path`). Both compare whole generated answers; on each split the full model is run
    once. No labels are read for a disagreement.

    Args:
        vlm: the model.
        candidates: plans of any modes: `nested_plans` of a rule, `bands`, `greedy_plans`.
        tuning: questions that choose.
        certification: questions that certify; no image of theirs tunes.
        epsilon: what is to be promised.
        delta: probability with which the promise may be wrong, the search included.
        quantity: "disagreement" or "accuracy_drop".
        method: of the certificate; see `vlm_bridge.certify`.
        rungs: tuning rates of the path, as shares of epsilon.
        batch_size: questions in a batch.
        max_new_tokens: longest answer.
        checkpoint: a folder in which finished batches are kept, so that a second call continues.

    Raises:
        BridgeError: no candidates or none that the model supports, epsilon or delta outside
            (0, 1), images that both tune and certify, no items.
    """
    tuning, certification = list(tuning), list(certification)
    shared = set(image_hashes(tuning)) & set(image_hashes(certification))
    if shared:
        raise BridgeError(f"{len(shared)} images are in both splits; certify on other images")
    if not 0 < delta < 1:
        raise BridgeError(f"delta must lie in (0, 1), got {delta}")
    path = tuned_path(
        vlm,
        candidates,
        tuning,
        epsilon=epsilon,
        rungs=rungs,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        checkpoint=checkpoint,
    )
    empty = SkipPlan("block", vlm.layout.n_layers, source=tuned_source(candidates, tuning, epsilon))
    if not path:
        return CertifiedPlan(empty, None, (), ())
    full = FullAnswers.ask(
        vlm,
        certification,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        checkpoint=checkpoint and checkpoint / "certification-full.jsonl",
    )

    def certify_one(plan: SkipPlan) -> Certificate:
        return certify(
            vlm,
            full,
            plan,
            epsilon=epsilon,
            delta=delta,
            quantity=quantity,
            method=method,
            batch_size=batch_size,
            checkpoint=checkpoint and checkpoint / f"certification-{plan.hash()[:12]}.jsonl",
        )

    return certify_path(path, certify_one, empty=empty)
