"""Two converses that the theory refutes, looked for on real layers.

Conditions are sufficient, not necessary: a layer may lie far outside them and do no harm (an update
that nothing reads). A small cosine distance is not sufficient: a layer may hardly turn the states
and be needed. A unit that shows one of them is found on tuning images and confirmed, or not, on
test images; one unit for each converse and ranking, so that nothing is paid for the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from estimators import Estimate
from estimators.record import Record
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.claims.comparisons import order_of
from vlm_bridge.experiments.rule_benchmark import Store
from vlm_bridge.experiments.scoring import Truth
from vlm_bridge.experiments.scoring.truth import intervals
from vlm_bridge.plan.skip_plan import SkipPlan

HARMLESS = "outside the conditions, yet harmless"
HARMFUL = "small cosine distance, yet harmful"
#: Two-sided level at which each end is a one-sided bound of 95 %.
_LEVEL = 0.9


@dataclass(frozen=True)
class Ranking:
    """Scores of the units of a mode.

    Attributes:
        rule: name of what ranks.
        units: the single units.
        scores: one for each, the lower, the safer.
        is_distance: whether the score is a cosine (or angular) distance alone.
    """

    rule: str
    units: tuple[SkipPlan, ...]
    scores: tuple[float, ...]
    is_distance: bool

    @property
    def outside(self) -> list[SkipPlan]:
        """The half of the units that is ranked least safe."""
        return [self.units[i] for i in order_of(self.scores)[(len(self.scores) + 1) // 2 :]]

    @property
    def nearest(self) -> list[SkipPlan]:
        """The quarter of the units that is ranked safest, at least one, and all tied with its last.

        Equal scores tell no unit from another, so none of them is left out by its number.
        """
        last = sorted(self.scores)[max(1, len(self.scores) // 4) - 1]
        return [self.units[i] for i in order_of(self.scores) if self.scores[i] <= last]

    def place(self, unit: SkipPlan) -> int:
        """Place of a unit, 1 for the safest; equal scores share the first of their places."""
        score = self.scores[self.units.index(unit)]
        return 1 + sum(other < score for other in self.scores)


@dataclass(frozen=True)
class Converse(Record):
    """One converse, for one ranking.

    Attributes:
        claim: `HARMLESS` or `HARMFUL`.
        rule: what ranks.
        mode: of the units.
        considered: units that stand where the claim wants them.
        n_units: all of them.
        unit: the one found on tuning images; None where there is none.
        place: its place in the ranking, 1 for the safest.
        found: its disagreement on tuning images.
        confirmed: its disagreement on test images. Of both intervals each end is a one-sided
            bound of 95 %, exact for one question an image (Clopper-Pearson).
        holds: whether the end that matters lies on the right side of epsilon, on test images.
    """

    claim: str
    rule: str
    mode: str
    considered: int
    n_units: int
    unit: SkipPlan | None
    place: int | None
    found: Estimate | None
    confirmed: Estimate | None
    holds: bool

    @property
    def verdict(self) -> str:
        """In two words."""
        if self.unit is None:
            return "none found"
        return "confirmed" if self.holds else "not confirmed"


def converses(rankings: Sequence[Ranking], store: Store, *, epsilon: float) -> list[Converse]:
    """Both converses for every ranking; that of distances for distances alone.

    Args:
        rankings: of any modes.
        store: where outcomes are kept; tuning images find, test images confirm.
        epsilon: a unit is harmless below, harmful above.
    """
    found = [_harmless(one, store, epsilon) for one in rankings]
    return found + [_harmful(one, store, epsilon) for one in rankings if one.is_distance]


def _harmless(ranking: Ranking, store: Store, epsilon: float) -> Converse:
    """The unit of least disagreement; of several the one that is ranked least safe."""
    left = ranking.outside
    for split in _tuning(store):
        measured = _disagreement(left, store, (split,))
        left = [unit for unit in left if measured[unit].value <= epsilon]
    measured = _disagreement(left, store, _tuning(store))
    # From the least safe on, so that of equals the first is the farthest outside.
    best = min(reversed(left), key=lambda unit: measured[unit].value, default=None)
    return _confirm(HARMLESS, ranking, len(ranking.outside), best, store, epsilon)


def _harmful(ranking: Ranking, store: Store, epsilon: float) -> Converse:
    """The unit of most disagreement, where that is above epsilon; of several the safest-looking.

    Units that the first batch does not show to be above epsilon are not run on the others.
    """
    left = ranking.nearest
    for splits in (_tuning(store)[:1], _tuning(store)):
        measured = _disagreement(left, store, splits)
        left = [unit for unit in left if measured[unit].value > epsilon]
    worst = max(left, key=lambda unit: measured[unit].value, default=None)
    return _confirm(HARMFUL, ranking, len(ranking.nearest), worst, store, epsilon)


def _confirm(
    claim: str,
    ranking: Ranking,
    considered: int,
    unit: SkipPlan | None,
    store: Store,
    epsilon: float,
) -> Converse:
    found = confirmed = None
    holds = False
    if unit is not None:
        found = _disagreement([unit], store, _tuning(store))[unit]
        confirmed = _disagreement([unit], store, ("test",))[unit]
        low, high = confirmed.interval
        holds = high <= epsilon if claim == HARMLESS else low > epsilon
    return Converse(
        claim=claim,
        rule=ranking.rule,
        mode=ranking.units[0].mode,
        considered=considered,
        n_units=len(ranking.units),
        unit=unit,
        place=None if unit is None else ranking.place(unit),
        found=found,
        confirmed=confirmed,
        holds=holds,
    )


def _tuning(store: Store) -> tuple[str, ...]:
    """The splits that tuning images are kept in, the first batch first."""
    return tuple(split for split in ("screen", "tuning") if split in store.splits)


def _disagreement(
    units: Sequence[SkipPlan], store: Store, splits: Sequence[str]
) -> dict[SkipPlan, Estimate]:
    """Disagreement of every unit over some splits together."""
    parts = [store.outcomes(split, units) for split in splits]
    return {
        unit: _exact(unit, Outcomes.join([part[i] for part in parts]))
        for i, unit in enumerate(units)
    }


def _exact(unit: SkipPlan, outcomes: Outcomes) -> Estimate:
    values = Truth.of([unit], [outcomes]).disagreement
    low, high = intervals(values, "disagreement", _LEVEL)
    return Estimate(
        value=float(values.mean()),
        interval=(float(low[0]), float(high[0])),
        level=_LEVEL,
        n=len(values),
        method="Clopper-Pearson over images",
    )
