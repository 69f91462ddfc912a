"""Verdict on each clause of the paper's claim, by stated criteria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_bridge.experiments.claims.control import Control
from vlm_bridge.experiments.claims.overlap import Overlap
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.plan.modes import LAYERWISE

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
LEVEL = 0.05  # of significance
CLAUSES = {
    "i": "layers that the framework calls redundant coincide with those that popular methods skip",
    "ii": "skipping them is faster",
    "iii": "skipping them is safe",
    "iv": "skipping others degrades",
}
CRITERIA = {
    "i": "A ranking is *supported* if the mean Jaccard index of its set with those of the "
    f"published methods has p <= {LEVEL:g} under the permutation null and, in modes with 20 "
    "units or more, under the rotation null (whose p is at least one over the number of units); "
    "*refuted* if the mean is at or below its expectation by chance; else *undecided*.",
    "ii": "*Supported* if the interval of the certified plan's latency ratio in the prefill "
    "lies below 1, *refuted* if it lies at or above 1, *undecided* if it straddles 1 or "
    "nothing was certified.",
    "iii": "*Supported* if a plan of ours that saves something was certified and its "
    "disagreement on test images does not contradict the certificate (the interval begins at or "
    "below epsilon); *refuted* if it does, or if nothing was certified and every plan of the "
    "units ranked safest lies above epsilon; else *undecided*.",
    "iv": "A control is *supported* if the plan outside the conditions disagrees more than the "
    "plan inside (the interval of the paired difference lies above 0) and itself lies above "
    "epsilon; *refuted* if it lies at or below epsilon, or disagrees less than the plan inside; "
    "else *undecided*.",
}
COMBINED = "If a clause has several rankings, they must agree; otherwise it is *undecided*."


@dataclass(frozen=True)
class Conclusion:
    """The verdict on a clause (a key of `CLAUSES`) for a model, and the numbers behind it."""

    clause: str
    model: str
    verdict: str
    reason: str

    def __str__(self) -> str:
        return f"({self.clause}) {CLAUSES[self.clause]}: {self.verdict}. {self.reason}"


def conclusions(claims: ModelClaims) -> list[Conclusion]:
    """The verdict on all four clauses for one model, by `CRITERIA`."""
    verdicts = (_coincide(claims), _faster(claims), _safe(claims), _degrade(claims))
    by_clause = zip(CLAUSES, verdicts, strict=True)
    return [Conclusion(clause, claims.benchmark.model, *each) for clause, each in by_clause]


def combined(verdicts: Sequence[str]) -> str:
    """The common verdict, or undecided.

    >>> combined(["supported", "supported"]), combined(["supported", "refuted"]), combined([])
    ('supported', 'undecided', 'undecided')
    """
    return verdicts[0] if verdicts and set(verdicts) == {verdicts[0]} else UNDECIDED


def of_overlap(overlap: Overlap) -> str:
    """Verdict on clause i for one ranking."""
    p_values = [overlap.p_permutation]
    if overlap.peers[0].n_layers * LEVEL >= 1:
        p_values.append(overlap.p_rotation)
    if max(p_values) <= LEVEL:
        return SUPPORTED
    return REFUTED if overlap.jaccard <= overlap.expected else UNDECIDED


def of_control(control: Control, epsilon: float) -> str:
    """Verdict on clause iv for one control."""
    low, high = control.difference.interval
    unsafe_low, unsafe_high = control.unsafe.disagreement.interval
    if low > 0 and unsafe_low > epsilon:
        return SUPPORTED
    return REFUTED if unsafe_high <= epsilon or high < 0 else UNDECIDED


def _coincide(claims: ModelClaims) -> tuple[str, str]:
    if not claims.overlaps:
        return UNDECIDED, "No published method shares a mode with a ranking of ours."
    verdicts = [of_overlap(overlap) for overlap in claims.overlaps]
    details = "; ".join(
        f"{each.rule}, {each.mode}: {each.jaccard:.2f} where chance gives {each.expected:.2f} "
        f"(p {each.p_permutation:.2g}, rotation {each.p_rotation:.2g}; {verdict})"
        for each, verdict in zip(claims.overlaps, verdicts, strict=True)
    )
    return combined(verdicts), f"Mean Jaccard index, {details}."


def _faster(claims: ModelClaims) -> tuple[str, str]:
    cost, certified = claims.cost, claims.certified
    if cost is None or certified is None:
        return UNDECIDED, "No plan was certified, so there is nothing to time."
    ratio = cost.prefill.latency_ratio
    low, high = ratio.interval
    verdict = SUPPORTED if high < 1 else REFUTED if low >= 1 else UNDECIDED
    decode = ""
    if cost.decode is not None:
        decode = f"; a generated token {bracketed(cost.decode.latency_ratio)}"
    return verdict, (
        f"{certified.tested.plan.describe().capitalize()}: latency of the prefill "
        f"{bracketed(ratio)} of the full model's at {cost.prefill.flops_ratio:.2f} of its "
        f"FLOPs{decode}."
    )


def _safe(claims: ModelClaims) -> tuple[str, str]:
    epsilon, certified = claims.benchmark.epsilon, claims.certified
    if certified is not None:
        tested = certified.tested.disagreement
        by = f"by {certified.rule}" if certified.mode in LAYERWISE else "by tuning images alone"
        verdict = REFUTED if tested.interval[0] > epsilon else SUPPORTED
        return verdict, (
            f"{certified.tested.plan.describe().capitalize()} ({by}) is certified "
            f"at {epsilon:g} with probability {1 - claims.benchmark.delta:.0%}; it changes "
            f"{bracketed(tested, '.3f')} of the first answer tokens on {tested.n} test images."
        )
    safe = [control.safe.disagreement for control in claims.controls]
    if safe and all(estimate.interval[0] > epsilon for estimate in safe):
        least = min(safe, key=lambda estimate: estimate.value)
        return REFUTED, (
            "Nothing was certified, and every plan of the units ranked safest changes more than "
            f"{epsilon:g} of the first answer tokens; the best of them {bracketed(least, '.3f')}."
        )
    return UNDECIDED, f"Nothing was certified at {epsilon:g} on this many images."


def _degrade(claims: ModelClaims) -> tuple[str, str]:
    if not claims.controls:
        return UNDECIDED, "No layer-wise mode was benchmarked, so there is no control."
    verdicts = [of_control(control, claims.benchmark.epsilon) for control in claims.controls]
    details = "; ".join(
        f"{each.rule}, {each.mode}, {each.size} layers: "
        f"{bracketed(each.unsafe.disagreement, '.3f')} against "
        f"{bracketed(each.safe.disagreement, '.3f')} ({verdict})"
        for each, verdict in zip(claims.controls, verdicts, strict=True)
    )
    return combined(verdicts), f"Changed first answer tokens outside against inside, {details}."
