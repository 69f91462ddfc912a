"""Simulated users of every guarantee, at truths on the limit: how often a promise is false."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.certificates.alarm import Alarm, alarm_stakes
from theory.certificates.anytime import anytime_p_values
from theory.certificates.certify import certify_mean
from theory.certificates.exchangeability import exchangeability_p_value, stream_alarm
from theory.certificates.groups import certify_groups
from theory.certificates.prediction_powered import powered_upper_bound
from theory.certificates.quantile import quantile_upper_bound
from theory.certificates.risks import certify_risks
from theory.certificates.shift import certify_shifted

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


def groups(rng: np.random.Generator, runs: int) -> Iterator[Guarantee]:
    """Three kinds of question on the same images, the rarest on a quarter of them, all at epsilon.

    One uniform number of each image decides all its kinds, so that they go together.
    """
    images, kinds = np.tile(np.arange(400), 3), np.repeat(["shape", "color", "count"], 400)
    asked = (kinds != "count") | (images % 4 == 0)
    images, kinds = images[asked], kinds[asked]
    options = {"quantity": "disagreement", "epsilon": EPSILON, "delta": DELTA}
    for truth, together in (("each at epsilon, together", True), ("each at epsilon, apart", False)):
        wrong, apart = [], []
        for _ in range(runs):
            draws = rng.random(400)[images] if together else rng.random(images.size)
            values = (draws < EPSILON).astype(np.float64)
            made = certify_groups(values, images, kinds, **options)
            wrong.append(any(each.bound < EPSILON for each in made.certificates.values()))
            if not together:
                bounds = (
                    certify_mean(values[kinds == kind], images[kinds == kind], **options).bound
                    for kind in ("shape", "color", "count")
                )
                apart.append(any(bound < EPSILON for bound in bounds))
        yield Guarantee("three groups at once", truth, runs, float(np.mean(wrong)))
        if apart:
            name = "three groups, each at delta"
            yield Guarantee(name, truth, runs, float(np.mean(apart)), valid=False)


def risks(rng: np.random.Generator, runs: int, n: int = 200) -> Iterator[Guarantee]:
    """Disagreement, accuracy drop and change in length, all at their limits, or the last alone."""
    limits = {"disagreement": 0.04, "accuracy_drop": 0.02, "length_change": 0.05}
    for truth, control, inside in (
        ("all at their limits", "holm", False),
        ("all at their limits", "fixed-sequence", False),
        ("disagreement at its limit, the others inside", "all", True),
    ):
        wrong = 0
        for _ in range(runs):
            changed = (rng.random(n) < 0.04).astype(np.float64)
            lost = changed * (rng.random(n) < (0.0 if inside else 0.5))
            length = (rng.random(n) < (0.0 if inside else 0.1)) * rng.random(n)
            values = {"disagreement": changed, "accuracy_drop": lost, "length_change": length}
            made = certify_risks(values, range(n), limits=limits, delta=DELTA, control=control)
            wrong += made.holds if inside else bool(made.certified)
        yield Guarantee(f"three risks at once, {control}", truth, runs, wrong / runs)


def quantile(rng: np.random.Generator, runs: int, n: int = 150) -> Iterator[Guarantee]:
    """The 90 % quantile of a continuous loss, and of a loss with ties."""
    for truth, draw, value in (
        ("uniform loss, quantile .9", lambda: rng.random(n), 0.9),
        ("loss of 0, 1/4, ..., 1, quantile .75", lambda: rng.choice(_STEPS, n, p=_SHARES), 0.75),
    ):
        below = [quantile_upper_bound(draw(), 0.9, DELTA) < value for _ in range(runs)]
        yield Guarantee("90 % quantile of the loss", truth, runs, float(np.mean(below)))
        if truth.startswith("uniform"):
            naive = [np.quantile(draw(), 0.9) < value for _ in range(runs)]
            share = float(np.mean(naive))
            yield Guarantee("sample quantile", truth, runs, share, valid=False)


def powered(rng: np.random.Generator, runs: int, n: int = 100) -> Iterator[Guarantee]:
    """Few labels, 500 proxies that are right for nine in ten images, and the true mean loss."""
    for truth, rate in (("loss of one in five", 0.2), ("loss of one in fifty", 0.02)):
        wrong, normal = 0, 0
        for _ in range(runs):
            loss = (rng.random(n + 500) < rate).astype(np.float64)
            proxy = np.where(rng.random(n + 500) < 0.9, loss, 1.0 - loss)
            if truth.endswith("fifty"):
                proxy = np.zeros(n + 500)  # a proxy that says nothing
            y, f, many = loss[:n], proxy[:n], proxy[n:]
            wrong += powered_upper_bound(y, f, many, delta=DELTA).bound < rate
            spread = math.sqrt(np.var(many) / many.size + np.var(y - f) / n)
            normal += many.mean() + (y - f).mean() + 1.6449 * spread < rate
        yield Guarantee("prediction-powered bound", truth, runs, wrong / runs)
        if truth.endswith("fifty"):
            name = "prediction-powered, asymptotic"
            yield Guarantee(name, truth, runs, float(normal) / runs, valid=False)


def shifted(rng: np.random.Generator, runs: int, n: int = 500) -> Iterator[Guarantee]:
    """Deployment asks the hard kind in 40 %, certification in 20 %; its true rate is epsilon."""
    wrong, unweighted = 0, 0
    for _ in range(runs):
        hard = rng.random(n) < 0.2
        values = (rng.random(n) < np.where(hard, 0.035, 0.01)).astype(np.float64)
        weights = np.where(hard, 2.0, 0.75)
        of = {"epsilon": EPSILON, "delta": DELTA}
        try:
            made = certify_shifted(values, weights, range(n), largest_weight=2.0, **of)
        except ValueError:  # the weights of this draw do not look right: nothing is promised
            continue
        wrong += made.bound < EPSILON
        plain = certify_mean(values, range(n), quantity="disagreement", **of)
        unweighted += plain.bound < EPSILON
    truth = "rate epsilon after the shift"
    yield Guarantee("importance weights", truth, runs, wrong / runs)
    yield Guarantee("no weights", truth, runs, unweighted / runs, valid=False)


def exchangeable(rng: np.random.Generator, runs: int) -> Iterator[Guarantee]:
    """Certification and deployment inputs of one distribution: any alarm is false."""
    for truth, digits in (("the same scores", 9), ("the same scores, with ties", 0)):
        tested, rang = 0, 0
        for seed in range(runs):
            scores = rng.normal(size=300).round(digits)
            x, y = scores[:100], scores[100:]
            p = exchangeability_p_value(x, y, permutations=99, seed=seed)
            tested += p <= DELTA
            rang += stream_alarm(x, y, DELTA, seed=seed) > 0
        yield Guarantee("exchangeability, permutations", truth, runs, tested / runs)
        yield Guarantee("exchangeability, stream at any time", truth, runs, rang / runs)


_STEPS, _SHARES = np.arange(5) / 4, (0.5, 0.2, 0.195, 0.055, 0.05)

#: Every simulation: its share of the seed is its place.
SIMULATIONS: tuple[Callable[[np.random.Generator, int], Iterator[Guarantee]], ...] = (
    anytime,
    alarm,
    groups,
    risks,
    quantile,
    powered,
    shifted,
    exchangeable,
)


def guarantees(runs: int, seed: int) -> Iterator[Guarantee]:
    """All guarantees at all truths."""
    for number, simulation in enumerate(SIMULATIONS):
        yield from simulation(np.random.default_rng([seed, 2000 + number]), runs)
