"""Two converses that the theory refutes, tested on trained layers.

The conditions are sufficient, not necessary: a layer far outside them is harmless if later layers
ignore its update. A small cosine distance is not sufficient: a layer may hardly change the states
and still be needed. For each converse and ranking, tuning images select a counterexample and test
images confirm it, so the test needs no correction for the selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from estimators import Estimate, Profile
from estimators.record import Record
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.claims.comparisons import of_origin, order_of, our_conditions
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, Store
from vlm_bridge.experiments.scoring import Truth
from vlm_bridge.experiments.scoring.truth import intervals
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence
from vlm_bridge.runtime.files import read_or_make

HARMLESS = "outside the conditions, yet harmless"
HARMFUL = "small cosine distance, yet harmful"
#: Name of the ranking of frozen layers by the cosine distance of their vision states.
DISTANCE = "vision distance"
_LEVEL = 0.9  # two-sided; each end is a one-sided bound of 95 %


@dataclass(frozen=True)
class Ranking:
    """Scores (n_units,) of the units of a mode by a rule or a cosine (or angular) distance."""

    rule: str
    units: tuple[SkipPlan, ...]
    scores: tuple[float, ...]
    is_distance: bool

    @property
    def outside(self) -> list[SkipPlan]:
        """The half of the units with the highest scores."""
        return [self.units[i] for i in order_of(self.scores)[(len(self.scores) + 1) // 2 :]]

    @property
    def nearest(self) -> list[SkipPlan]:
        """The quarter of the units with the lowest scores, at least one unit, ties included."""
        last = sorted(self.scores)[max(1, len(self.scores) // 4) - 1]
        return [self.units[i] for i in order_of(self.scores) if self.scores[i] <= last]

    def place(self, unit: SkipPlan) -> int:
        """Place of a unit, 1 for the safest; tied units share the first place."""
        own = self.scores[self.units.index(unit)]
        return 1 + sum(score < own for score in self.scores)


@dataclass(frozen=True)
class Converse(Record):
    """The test of a converse by a ranking.

    Attributes:
        claim: `HARMLESS` or `HARMFUL`.
        rule, mode: name of the ranking and mode of its units.
        considered: number of units outside the conditions, or of small distance.
        n_units: number of units in the ranking.
        unit: counterexample selected on tuning images, if any.
        place: its place in the ranking, 1 for the safest.
        tuning, test: its disagreement on the split. Each end of the intervals is a one-sided bound
            of 95 %, exact with one question per image (Clopper-Pearson).
        holds: whether the bound on test images lies on the claimed side of epsilon.
    """

    claim: str
    rule: str
    mode: str
    considered: int
    n_units: int
    unit: SkipPlan | None
    place: int | None
    tuning: Estimate | None
    test: Estimate | None
    holds: bool

    @property
    def verdict(self) -> str:
        """`none found`, `confirmed` or `not confirmed`."""
        if self.unit is None:
            return "none found"
        return "confirmed" if self.holds else "not confirmed"


def rankings(benchmark: ModelBenchmark, evidence: Evidence, store: Store) -> list[Ranking]:
    """Our rankings, published distances, and the vision distance for frozen layers."""
    published = of_origin(benchmark.rules, "published")
    distances = [result for result in published if result.condition == "geometric"]
    ranked = [
        Ranking(r.score.rule, benchmark.truth_of(r).units, r.scores, r in distances)
        for r in (*our_conditions(benchmark), *distances)
    ]
    for truth in benchmark.truths_in("freeze"):
        path = store.path("profile", store.hashes["profiling"])
        profile = read_or_make(path, Profile, lambda: evidence.profile)
        scores = tuple(profile.values("image", "cosine_distance").tolist())
        ranked.append(Ranking(DISTANCE, truth.units, scores, is_distance=True))
    return ranked


def converses(rankings: Sequence[Ranking], store: Store, *, epsilon: float) -> list[Converse]:
    """Test `HARMLESS` on every ranking and `HARMFUL` on every distance.

    A unit is harmless if its disagreement is at most epsilon. Tuning images select a unit, test
    images confirm it.
    """
    distances = [ranking for ranking in rankings if ranking.is_distance]
    tested = [_converse(HARMLESS, each, each.outside, store, epsilon) for each in rankings]
    return tested + [_converse(HARMFUL, each, each.nearest, store, epsilon) for each in distances]


def _converse(
    claim: str, ranking: Ranking, units: list[SkipPlan], store: Store, epsilon: float
) -> Converse:
    """Select the unit of least (most) disagreement; of ties, the least safe (safest). Test it."""
    harmless = claim == HARMLESS
    splits = tuple(split for split in ("screen", "tuning") if split in store.splits)
    left = units[::-1] if harmless else units  # `min` takes the first of several ties
    for at, split in enumerate(splits):  # the first batch rejects units before the others are run
        so_far = (split,) if harmless else splits[: at + 1]
        rates = _disagreement(left, store, so_far)
        left = [unit for unit in left if (rates[unit].value <= epsilon) == harmless]
    rates = _disagreement(left, store, splits)
    sign = 1 if harmless else -1
    unit = min(left, key=lambda unit: sign * rates[unit].value, default=None)
    head = (claim, ranking.rule, ranking.units[0].mode, len(units), len(ranking.units))
    if unit is None:
        return Converse(*head, unit=None, place=None, tuning=None, test=None, holds=False)
    test = _disagreement([unit], store, ("test",))[unit]
    low, high = test.interval
    holds = high <= epsilon if harmless else low > epsilon
    place = ranking.place(unit)
    return Converse(*head, unit=unit, place=place, tuning=rates[unit], test=test, holds=holds)


def _disagreement(
    units: Sequence[SkipPlan], store: Store, splits: Sequence[str]
) -> dict[SkipPlan, Estimate]:
    """Disagreement of every unit over several splits together, with exact intervals."""
    if not units:
        return {}
    by_split = [store.outcomes(split, units) for split in splits]
    joined = [Outcomes.join(parts) for parts in zip(*by_split, strict=True)]
    values = Truth.of(units, joined).disagreement  # (n_images, n_units)
    low, high = intervals(values, "disagreement", _LEVEL)
    n, method = len(values), "Clopper-Pearson over images"

    def estimate(i: int) -> Estimate:
        value, interval = float(values[:, i].mean()), (float(low[i]), float(high[i]))
        return Estimate(value=value, interval=interval, level=_LEVEL, n=n, method=method)

    return {unit: estimate(i) for i, unit in enumerate(units)}
