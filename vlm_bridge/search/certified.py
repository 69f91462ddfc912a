"""Test the path in sequence on images that chose nothing; stop at the first that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from theory import Certificate
from vlm_bridge.certification import certify
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan import SkipPlan
from vlm_bridge.prompts import batches
from vlm_bridge.scoring.truth import Truth
from vlm_bridge.search.path import RUNGS, Step, pareto_path
from vlm_bridge.search.savings import saving
from vlm_bridge.skip import supported_modes
from vlm_bridge.sweeping import sweep_outcomes
from vlm_bridge.vlm import VLM


@dataclass(frozen=True)
class CertifiedPlan:
    """The largest plan on the path that was certified, and the path.

    Attributes:
        plan: skips nothing where not even the first step was certified.
        certificate: of that plan; None where it skips nothing.
        path: the steps, in the order they were to be tested.
        certificates: of the steps tested, in that order; all hold but perhaps the last.
    """

    plan: SkipPlan
    certificate: Certificate | None
    path: tuple[Step, ...]
    certificates: tuple[Certificate, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "type": "CertifiedPlan",
            "plan": self.plan.to_json(),
            "certificate": None if self.certificate is None else self.certificate.to_json(),
            "path": [
                {"plan": s.plan.to_json(), "rate": s.rate, "saving": s.saving} for s in self.path
            ],
            "certificates": [one.to_json() for one in self.certificates],
        }


def certify_path(
    path: Sequence[Step], certify_one: Callable[[SkipPlan], Certificate], *, empty: SkipPlan
) -> CertifiedPlan:
    """Fixed-sequence testing: each step at the full delta, until one does not hold.

    The null hypothesis of a step is "its loss is above epsilon". A wrong promise needs the first
    true null in the order to be rejected, which happens with probability at most delta; so
    whichever certified plan is taken, its promise is wrong with probability at most delta, however
    many steps there are.

    Args:
        path: in an order fixed without the certification images.
        certify_one: a certificate at level delta on those images.
        empty: the plan that skips nothing.

    Source:
        Maurer, Hothorn and Lehmacher 1995; Angelopoulos et al. 2021, arXiv 2110.01052, section 2.2.
    """
    plan, found = empty, None
    made: list[Certificate] = []
    for step in path:
        made.append(certify_one(step.plan))
        if not made[-1].holds:
            break
        plan, found = step.plan, made[-1]
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
    size: int = 16,
    max_new_tokens: int = 8,
    journal: Path | None = None,
) -> CertifiedPlan:
    """The largest of many candidate plans whose loss is certified, the search paid for.

    Tuning images rank: every candidate's first answer token is compared with the full model's,
    and the candidates that save most at each of a few tuning rates form a path. Certification
    images test the path in sequence, with whole generated answers. No labels are read for a
    disagreement.

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
        size: batch size.
        max_new_tokens: longest answer of the certification.
        journal: a folder in which finished batches are kept, so that a second call continues.

    Raises:
        BridgeError: no candidates or none that the model supports, epsilon or delta outside
            (0, 1), images that both tune and certify, no items.
    """
    tuning, certification = list(tuning), list(certification)
    shared = set(image_hashes(tuning)) & set(image_hashes(certification))
    if shared:
        raise BridgeError(f"{len(shared)} images are in both splits; certify on other images")
    if not 0 < epsilon < 1 or not 0 < delta < 1:
        raise BridgeError(f"epsilon and delta must lie in (0, 1), got {epsilon} and {delta}")
    modes = supported_modes(vlm)
    able = [plan for plan in candidates if not any(modes[m] for m in plan.mode.split("+"))]
    if not able:
        raise BridgeError(f"none of {len(candidates)} candidates is supported by {vlm.name}")
    outcomes = sweep_outcomes(
        vlm, tuning, able, size=size, journal=journal and journal / "tuning.jsonl"
    )
    rates = Truth.of(able, outcomes).disagreement.mean(axis=0).tolist()
    share = vision_share(vlm, tuning)
    savings = [saving(plan, vision=share) for plan in able]
    source = {
        "tuning_hash": items_hash(tuning),
        "tuning_images": image_hashes(tuning),
        "epsilon": epsilon,
        "candidates": len(able),
    }
    path = [
        replace(step, plan=replace(step.plan, source={**step.plan.source, **source}))
        for step in pareto_path(able, rates, savings, epsilon=epsilon, rungs=rungs)
    ]

    def certify_one(plan: SkipPlan) -> Certificate:
        return certify(
            vlm,
            plan,
            certification,
            epsilon=epsilon,
            delta=delta,
            quantity=quantity,
            method=method,
            size=size,
            max_new_tokens=max_new_tokens,
            journal=journal and journal / f"certify-{plan.hash()[:12]}.jsonl",
        )

    empty = SkipPlan("block", vlm.layout.n_layers, source=source)
    return certify_path(path, certify_one, empty=empty)


def vision_share(vlm: VLM, items: Sequence[Item]) -> float:
    """Share of the first prompt that is vision tokens."""
    inputs = next(batches(vlm, items[:1], size=1)).inputs
    ids = inputs["input_ids"]
    vision = sum(int((ids == one).sum()) for one in vlm.layout.vision_ids)
    return vision / ids.numel()
