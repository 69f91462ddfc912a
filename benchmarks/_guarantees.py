"""Simulated users of every guarantee, at truths on the limit: how often a promise is false."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.certificates.alarm import Alarm, alarm_stakes
from theory.certificates.anytime import anytime_p_values

Floats = NDArray[np.float64]

EPSILON, DELTA = 0.02, 0.05


@dataclass(frozen=True)
class Guarantee:
    """How often simulated users were promised what is not so.

    Attributes:
        name: of the guarantee.
        truth: the truth, on the limit.
        runs: number of simulated users.
        wrong: share of them that got a false promise; must not exceed delta.
        valid: whether the guarantee claims to be valid; the others show what would go wrong.
    """

    name: str
    truth: str
    runs: int
    wrong: float
    valid: bool = True

    @property
    def most(self) -> float:
        """Largest share that a valid guarantee shows: delta plus three standard errors."""
        return DELTA + 3.0 * math.sqrt(DELTA * (1.0 - DELTA) / self.runs)


def anytime(rng: np.random.Generator, runs: int, looks: int = 2000) -> Iterator[Guarantee]:
    """A user looks after every image, up to 2,000, and stops at the first success."""
    rates = {"rate epsilon": EPSILON, "rate epsilon, mean of 10 questions": EPSILON}
    for number, (truth, rate) in enumerate(rates.items()):
        wrong, naive = [], []
        for _ in range(runs):
            if number:
                values = rng.binomial(10, rng.beta(rate * 9, (1 - rate) * 9, looks)) / 10
            else:
                values = (rng.random(looks) < rate).astype(np.float64)
            wrong.append(anytime_p_values(values, EPSILON)[-1] <= DELTA)
            if not number:
                naive.append(_peeks(values))
        yield Guarantee("anytime, a look at every image", truth, runs, float(np.mean(wrong)))
        if naive:
            name = "clopper-pearson, a look at every image"
            yield Guarantee(name, truth, runs, float(np.mean(naive)), valid=False)


def _peeks(values: Floats) -> bool:
    """Whether the bound for one look certifies at any of the looks."""
    from scipy.stats import binom  # half a second to import

    count = np.cumsum(values)
    return bool((binom.cdf(count, np.arange(1, values.size + 1), EPSILON) <= DELTA).any())


def alarm(rng: np.random.Generator, runs: int, outcomes: int = 2000) -> Iterator[Guarantee]:
    """A monitor of a stream whose rate is epsilon for ever, or rises to it from zero."""
    for truth, start in (("rate epsilon", 0), ("rate 0, then epsilon", outcomes // 2)):
        changed = rng.random((runs, outcomes)) < EPSILON
        changed[:, :start] = False
        yield Guarantee("alarm, at any time", truth, runs, float(rings(changed, DELTA).mean()))


def rings(changed: NDArray[np.bool_], alpha: float) -> NDArray[np.bool_]:
    """Whether `Alarm` rings at any time, for many streams at once, shape (runs, outcomes)."""
    stakes = np.array(alarm_stakes(EPSILON))[:, None]
    working, highest = np.zeros((stakes.size, len(changed))), np.ones(len(changed))
    for t, now in enumerate(changed.T, start=1):
        factor = np.where(now, 1 + stakes * (1 - EPSILON) / EPSILON, 1 - stakes)
        working = (working + 1 / (t * (t + 1))) * factor
        highest = np.maximum(highest, working.mean(axis=0) + 1 / (t + 1))
    return np.asarray(highest >= 1 / alpha)


def ring_one(changed: NDArray[np.bool_], alpha: float) -> bool:
    """The same by `Alarm` itself, for one stream."""
    bell = Alarm(EPSILON, alpha)
    for outcome in changed.tolist():
        bell = bell.after(outcome)
    return bell.rings


#: Every simulation: its share of the seed is its place.
SIMULATIONS: tuple[Callable[[np.random.Generator, int], Iterator[Guarantee]], ...] = (
    anytime,
    alarm,
)


def guarantees(runs: int, seed: int) -> Iterator[Guarantee]:
    """All guarantees at all truths."""
    for number, simulation in enumerate(SIMULATIONS):
        yield from simulation(np.random.default_rng([seed, 2000 + number]), runs)
