"""The paper's claim, clause by clause: supported, refuted or undecided, by stated criteria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_bridge.experiments.claims.comparisons import LAYERWISE
from vlm_bridge.experiments.claims.control import Control
from vlm_bridge.experiments.claims.overlap import Overlap
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures.numbers import bracketed

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
#: A test says something below this.
LEVEL = 0.05
CLAUSES = {
    "i": "layers that the framework calls redundant coincide with those that popular methods skip",
    "ii": "skipping them is faster",
    "iii": "skipping them is safe",
    "iv": "skipping others degrades",
}
CRITERIA = {
    "i": "A ranking is *supported* where the mean Jaccard index of its set with those of the "
    f"published methods has p <= {LEVEL:g} under the permutation null and, where the mode has 20 "
    "units or more, under the rotation null (which cannot fall below one over the units); "
    "*refuted* where the mean is at or below its expectation by chance; else *undecided*.",
    "ii": "*Supported* where the interval of the certified plan's latency ratio in the prefill "
    "lies below 1, *refuted* where it lies at or above 1, *undecided* where it straddles 1 or "
    "nothing was certified.",
    "iii": "*Supported* where a plan of ours that saves something was certified and its "
    "disagreement on untouched images does not contradict it (the interval begins at or below "
    "epsilon); *refuted* where it does, or where nothing was certified and every plan of the "
    "units called safest lies above epsilon; else *undecided*.",
    "iv": "A control is *supported* where the plan outside the conditions disagrees more than the "
    "one inside (the interval of the paired difference lies above 0) and itself lies above "
    "epsilon; *refuted* where it lies at or below epsilon, or disagrees less than the one inside; "
    "else *undecided*.",
}
COMBINED = "Of several rankings all must agree; where they do not, the clause is *undecided*."


@dataclass(frozen=True)
class Conclusion:
    """What one clause comes to on one model.

    Attributes:
        clause: key of `CLAUSES`.
        model: its name.
        verdict: `SUPPORTED`, `REFUTED` or `UNDECIDED`.
        reason: the numbers it rests on.
    """

    clause: str
    model: str
    verdict: str
    reason: str

    def __str__(self) -> str:
        return f"({self.clause}) {CLAUSES[self.clause]}: {self.verdict}. {self.reason}"


def conclusions(found: ModelClaims) -> list[Conclusion]:
    """All four clauses on one model, from the numbers alone; see `CRITERIA`."""
    said = {"i": _coincide(found), "ii": _faster(found), "iii": _safe(found), "iv": _degrade(found)}
    name = found.benchmark.model
    return [Conclusion(clause, name, *verdict) for clause, verdict in said.items()]


def combined(verdicts: Sequence[str]) -> str:
    """What all say, or undecided.

    >>> combined(["supported", "supported"]), combined(["supported", "refuted"]), combined([])
    ('supported', 'undecided', 'undecided')
    """
    return verdicts[0] if verdicts and set(verdicts) == {verdicts[0]} else UNDECIDED


def of_overlap(one: Overlap) -> str:
    """Clause i for one ranking."""
    nulls = [one.p_permutation]
    if one.peers[0].n_layers * LEVEL >= 1:
        nulls.append(one.p_rotation)
    if max(nulls) <= LEVEL:
        return SUPPORTED
    return REFUTED if one.jaccard <= one.expected else UNDECIDED


def of_control(one: Control, epsilon: float) -> str:
    """Clause iv for one control."""
    low, high = one.difference.interval
    harm_low, harm_high = one.unsafe.disagreement.interval
    if low > 0 and harm_low > epsilon:
        return SUPPORTED
    return REFUTED if harm_high <= epsilon or high < 0 else UNDECIDED


def _coincide(found: ModelClaims) -> tuple[str, str]:
    if not found.overlaps:
        return UNDECIDED, "No published method shares a mode with a ranking of ours."
    verdicts = [of_overlap(one) for one in found.overlaps]
    said = "; ".join(
        f"{one.rule}, {one.mode}: {one.jaccard:.2f} where chance gives {one.expected:.2f} "
        f"(p {one.p_permutation:.2g}, rotation {one.p_rotation:.2g}; {verdict})"
        for one, verdict in zip(found.overlaps, verdicts, strict=True)
    )
    return combined(verdicts), f"Mean Jaccard index, {said}."


def _faster(found: ModelClaims) -> tuple[str, str]:
    if found.speed is None:
        return UNDECIDED, "No plan was certified, so there is nothing to time."
    ratio = found.speed.prefill.latency_ratio
    low, high = ratio.interval
    verdict = SUPPORTED if high < 1 else REFUTED if low >= 1 else UNDECIDED
    token = found.speed.token
    more = "" if token is None else f"; a generated token {bracketed(token.latency_ratio)}"
    return verdict, (
        f"{found.speed.plan.describe().capitalize()}: latency of the prefill {bracketed(ratio)} of "
        f"the full model's at {found.speed.prefill.flops_ratio:.2f} of its FLOPs{more}."
    )


def _safe(found: ModelClaims) -> tuple[str, str]:
    epsilon, certified = found.benchmark.epsilon, found.certified
    if certified is not None:
        tested = certified.tested.disagreement
        found_by = (
            f"by {certified.rule}" if certified.mode in LAYERWISE else "by tuning images alone"
        )
        verdict = REFUTED if tested.interval[0] > epsilon else SUPPORTED
        return verdict, (
            f"{certified.tested.plan.describe().capitalize()} ({found_by}) is certified "
            f"at {epsilon:g} with probability {1 - found.benchmark.delta:.0%}; it changes "
            f"{bracketed(tested, '.3f')} of the answers on {tested.n} untouched images."
        )
    safe = [one.safe.disagreement for one in found.controls]
    if safe and all(one.interval[0] > epsilon for one in safe):
        least = min(safe, key=lambda one: one.value)
        return REFUTED, (
            "Nothing was certified, and every plan of the units called safest changes more than "
            f"{epsilon:g} of the answers; the best of them {bracketed(least, '.3f')}."
        )
    return UNDECIDED, f"Nothing was certified at {epsilon:g} on this many images."


def _degrade(found: ModelClaims) -> tuple[str, str]:
    if not found.controls:
        return (
            UNDECIDED,
            "No layer-wise mode was benchmarked, so there is no control of equal size.",
        )
    verdicts = [of_control(one, found.benchmark.epsilon) for one in found.controls]
    said = "; ".join(
        f"{one.rule}, {one.mode}, {one.size} layers: {bracketed(one.unsafe.disagreement, '.3f')} "
        f"against {bracketed(one.safe.disagreement, '.3f')} ({verdict})"
        for one, verdict in zip(found.controls, verdicts, strict=True)
    )
    return combined(verdicts), f"Changed answers outside against inside, {said}."
