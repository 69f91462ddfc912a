"""Fixed-sequence testing of a path on certification images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from estimators.frames import frame_of
from estimators.record import Record
from theory import Certificate
from vlm_bridge.data import Item, check_disjoint, image_ids
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.certify import certify
from vlm_bridge.evaluate.from_outcomes import signed
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.reach import check_quantity, log_reach
from vlm_bridge.evaluate.spending import check_unspent, granted_to, reach_of_search, spend_on
from vlm_bridge.model.given import check_items, check_vlm, given_plans
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger, Spending
from vlm_bridge.selection.path import RUNGS, Step
from vlm_bridge.selection.tuning import tuned_on, tuned_path

if TYPE_CHECKING:
    from pandas import DataFrame

P = TypeVar("P", SkipPlan, AdaptivePlan)


@dataclass(frozen=True)
class CertifiedPlan(Record):
    """The largest certified plan on a path, and the path.

    Attributes:
        plan: the plan; it skips nothing if the first step was not certified.
        certificate: of that plan, corrected for the search; None if it skips nothing.
        path: the steps, in their order of testing.
        certificates: of each tested step, uncorrected; all but perhaps the last hold.
    """

    plan: SkipPlan
    certificate: Certificate | None
    path: tuple[Step, ...]
    certificates: tuple[Certificate, ...]

    def to_pandas(self) -> DataFrame:
        """A row for each step of the path: what it skips, rate and saving on tuning images.

        `tested`, `estimate` and `holds` are of the certification images; steps behind the first
        that failed were not tested.

        Raises:
            MissingExtra: pandas is not installed.
        """
        tested = [*self.certificates, *[None] * (len(self.path) - len(self.certificates))]
        return frame_of(
            {
                "plan": step.plan.describe(),
                "rate": step.rate,
                "saving": step.saving,
                "tested": made is not None,
                "estimate": None if made is None else made.estimate,
                "holds": made is not None and made.holds,
            }
            for step, made in zip(self.path, tested, strict=True)
        )


def certify_path(
    path: Sequence[Step],
    certify_one: Callable[[SkipPlan], Certificate],
    *,
    empty: SkipPlan,
    images: Iterable[str] = (),
) -> CertifiedPlan:
    """Fixed-sequence testing: each step at the full delta, until one does not hold.

    The null hypothesis of a step is "its loss is above epsilon". A wrong certificate requires that
    the first true null in the order is rejected, which has probability at most delta, however many
    steps there are. The certified bound is epsilon: a step's own, perhaps smaller, bound is not
    valid for a plan chosen by it, so it appears in `certificates` only. The order of `path` must
    not depend on the certification images, on which `certify_one` certifies at level delta. Their
    identities, `images`, are added to the provenance of every plan of the result.

    Source:
        Maurer, Hothorn and Lehmacher 1995; Angelopoulos et al. 2021, arXiv 2110.01052, section 2.2;
        why the bound is epsilon: Hsu and Berger 1999, JASA 94, stepwise confidence intervals.
    """
    certificates = until_one_fails([step.plan for step in path], certify_one)
    held = sum(certificate.holds for certificate in certificates)
    images = tuple(images)
    path = [replace(step, plan=certified_on(step.plan, images)) for step in path]
    plan = path[held - 1].plan if held else certified_on(empty, images)
    return CertifiedPlan(
        plan, of_sequence(certificates, len(path)), tuple(path), tuple(certificates)
    )


def until_one_fails(
    plans: Iterable[P], certify_one: Callable[[P], Certificate]
) -> list[Certificate]:
    """The certificates of `plans` in their order, up to the first that does not hold."""
    certificates: list[Certificate] = []
    for plan in plans:
        certificates.append(certify_one(plan))
        if not certificates[-1].holds:
            break
    return certificates


def of_sequence(certificates: Sequence[Certificate], steps: int) -> Certificate | None:
    """The last certificate that holds, with the bound of fixed-sequence testing of `steps`."""
    held = sum(certificate.holds for certificate in certificates)
    if not held:
        return None
    last = certificates[held - 1]
    note = f"tested in a fixed sequence: step {held} of {steps}, and all before it hold"
    return replace(last, bound=last.epsilon, checked=(*last.checked, note))


def certified_on(plan: P, images: Iterable[str]) -> P:
    """The plan with the images that certified it in its provenance."""
    return replace(plan, provenance=plan.provenance.adding(certified=images))


def check_splits(tuning: Iterable[Item], certification: Iterable[Item]) -> None:
    """Raise a `BridgeError` if an image or a cluster is in both splits."""
    check_disjoint(certification, tuning, "are in both splits; certify on other images")


def search(
    vlm: VLM,
    tuning: Iterable[Item],
    certification: Iterable[Item],
    candidates: Sequence[SkipPlan | str],
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    quantity: str = "disagreement",
    method: str = "auto",
    rungs: Sequence[float] = RUNGS,
    stairs: Sequence[float] = (),
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> CertifiedPlan:
    """The largest candidate plan whose loss is certified, corrected for the search.

    A path chosen on tuning images (`tuned_path`) is tested in sequence on certification images
    (`certify_path`), by greedy answers up to `max_new_tokens` tokens. A disagreement needs no
    labels. Before the run a log line says which epsilon the certification images can reach.

    Args:
        vlm: not inside `skipping`.
        tuning: questions for the choice.
        certification: questions for the certificate, about other images.
        candidates: plans of any modes: `nested_plans` of a rule, `bands`, `greedy_plans`.
        epsilon: bound to certify.
        delta: probability that the certificate is wrong, including the search.
        quantity: "disagreement" or "accuracy_drop".
        method: of the certificate; see `vlm_bridge.certify`.
        rungs: largest tuning rates of the steps, as shares of epsilon.
        stairs: smaller steps before the first one, as shares of its saving; see `pareto_path`.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        checkpoint: a folder for finished batches; the same call resumes from it.
        ledger: a file that knows what was spent on the certification images; see `Ledger`. The
            search gets at most the delta that is left. Without one, the certificate assumes that
            the images were not used before.

    Raises:
        BridgeError: no candidates or none that the model supports, epsilon or delta outside
            (0, 1), an image or a cluster in both splits, a candidate of another model or chosen on
            certification images, no items, no delta left.
    """
    check_vlm(vlm)
    plans = given_plans(vlm, candidates)
    wanted: Any = {"epsilon": epsilon, "quantity": quantity, "method": method}
    tuning, certification = check_search(
        *(vlm, tuning, certification, plans), delta=delta, ledger=ledger, **wanted
    )
    generating: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    path = tuned_path(
        *(vlm, tuning, plans),
        epsilon=epsilon,
        rungs=rungs,
        stairs=stairs,
        checkpoint=checkpoint,
        **generating,
    )
    settings = {"epsilon": epsilon, "candidates": len(plans)}
    length = {"max_new_tokens": max_new_tokens}
    empty = SkipPlan("block", vlm.layout.n_layers)
    empty = tuned_on(vlm, empty, tuning, **length, settings=settings)
    if not path:
        return CertifiedPlan(empty, None, (), ())
    full, spending, level = spent_answers(
        *(vlm, certification, [step.plan.hash() for step in path]),
        level={**wanted, "delta": delta},
        generating=generating,
        checkpoint=checkpoint,
        ledger=ledger,
    )

    def certify_one(plan: SkipPlan) -> Certificate:
        file = checkpoint and checkpoint / f"certification-{plan.hash()[:12]}.jsonl"
        made = certify(vlm, full, plan, batch_size=batch_size, checkpoint=file, **level)
        return made if spending is None else signed(made, vlm, plan, spending)

    return certify_path(path, certify_one, empty=empty, images=image_ids(certification))


def check_search(
    vlm: VLM,
    tuning: Iterable[Item],
    certification: Iterable[Item],
    candidates: Sequence[SkipPlan],
    *,
    delta: float,
    ledger: Ledger | str | Path | None,
    quantity: str = "disagreement",
    method: str = "auto",
    epsilon: float,
) -> tuple[list[Item], list[Item]]:
    """The questions of both splits; logs what a search can reach. Errors are those of `search`."""
    check_vlm(vlm)
    tuning, certification = check_items(tuning), check_items(certification)
    check_splits(tuning, certification)
    if not 0 < delta < 1:
        raise BridgeError(f"delta must lie in (0, 1), got {delta}")
    check_quantity(quantity, method)
    for plan in candidates:
        check_unspent(plan, certification)
    wanted: Any = {"epsilon": epsilon, "quantity": quantity, "method": method}
    log_reach(*reach_of_search(ledger, vlm, certification, delta=delta, **wanted))
    return tuning, certification


def spent_answers(
    vlm: VLM,
    certification: Sequence[Item],
    plans: Sequence[str],
    *,
    level: dict[str, Any],
    generating: dict[str, Any],
    checkpoint: Path | None,
    ledger: Ledger | str | Path | None,
) -> tuple[FullAnswers, Spending | None, dict[str, Any]]:
    """The full model's answers to the certification questions, and the delta spent on them.

    `plans` are the hashes of those that will be tested, in order; `level` is returned with the
    delta that the ledger granted.
    """
    run: Any = {**level, **generating, "plans": list(plans)}
    if ledger is not None:  # refused before the full model is run
        granted_to(ledger, "search", vlm, certification, **run)
    file = checkpoint and checkpoint / "certification-full.jsonl"
    full = FullAnswers.ask(vlm, certification, checkpoint=file, **generating)
    if ledger is None:
        return full, None, level
    # Before any answer of a skipped model.
    spending = spend_on(ledger, "search", vlm, certification, **run)
    return full, spending, {**level, "delta": spending.delta}
