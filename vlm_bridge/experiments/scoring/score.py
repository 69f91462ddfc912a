"""Figures of merit of a rule in one mode of one model, with intervals over layers and images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate
from estimators.rank_correlation import partial_spearman, spearman
from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.scoring.truth import HARMFUL, SAFE, UNDETERMINED, Truth, verdicts

Floats = NDArray[np.float64]
#: Figure of merit from scores, verdicts, measured means and depths, each (n_units,).
Figure = Callable[[Floats, NDArray[np.int64], Floats, Floats], float]


@dataclass(frozen=True)
class RuleScore(Record):
    """Figures of merit of a rule's ranking, in one mode of one model.

    Attributes:
        rule, model: their names.
        requires: evidence: "nothing", "forward pass", "candidate runs" or "labels".
        mode: mode of the units.
        quantity: "disagreement" or "drop".
        epsilon: threshold between safe and harmful.
        safe, harmful: number of units whose interval lies below or above epsilon.
        undetermined: number of other units; they count in `spearman` and `partial` alone.
        auc: probability that a harmful unit scores above a safe one.
        spearman: rank correlation with the measured mean, over all units.
        partial: the same given depth, which many rules follow (`partial_spearman`).
        false_safe: share of harmful units among the lowest scores, as many as there are safe units.
        forward_cost: cost of the rule, in forward passes over its images.
    """

    rule: str
    requires: str
    mode: str
    model: str
    quantity: str
    epsilon: float
    safe: int
    harmful: int
    undetermined: int
    auc: Estimate
    spearman: Estimate
    partial: Estimate
    false_safe: Estimate
    forward_cost: float


def score_rule(
    score: Floats,
    truth: Truth,
    *,
    rule: str,
    requires: str,
    model: str,
    epsilon: float,
    quantity: str = "disagreement",
    forward_cost: float = 0.0,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> RuleScore:
    """Score a rule; intervals by bootstrap over units and images, with verdicts made anew in each.

    `score` is (n_units,) in the order of `truth.plans`, the lower, the safer; `level` is that of
    the verdicts and of the reported intervals. A BridgeError if the quantity was not measured.

    Source:
        Percentile bootstrap of both factors: Owen and Eckles 2012, Bootstrapping data arrays of
        arbitrary order, Annals of Applied Statistics 6.
    """
    score = _checked(score, truth, rule)
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
    values, depth = truth.values(quantity), truth.places
    verdict = verdicts(values, quantity, epsilon, level)
    samples: list[tuple[Floats, NDArray[np.int64], Floats, Floats]] = []
    for units, rows in _drawn(values, resamples, seed):
        again = verdicts(rows, quantity, epsilon, level)
        samples.append((score[units], again, rows.mean(axis=0), depth[units]))

    def figure(name: str, of: Figure, undefined: str) -> Estimate:
        value = of(score, verdict, values.mean(axis=0), depth)
        drawn = [of(*sample) for sample in samples]
        return _percentile(name, value, drawn, len(values), level, undefined)

    classes = "no unit is safe, or none is harmful"
    tied = "all scores or all measured means are equal"
    return RuleScore(
        rule=rule,
        requires=requires,
        mode=truth.plans[0].mode,
        model=model,
        quantity=quantity,
        epsilon=epsilon,
        safe=int((verdict == SAFE).sum()),
        harmful=int((verdict == HARMFUL).sum()),
        undetermined=int((verdict == UNDETERMINED).sum()),
        auc=figure("auc", lambda s, v, *_: auc(s, v), classes),
        spearman=figure("spearman", lambda s, _v, mean, _d: spearman(s, mean), tied),
        partial=figure(
            "partial spearman given depth",
            lambda s, _, mean, places: partial_spearman(s, mean, places),
            f"{tied}, or ordered by depth",
        ),
        false_safe=figure("false-safe", lambda s, v, *_: false_safe(s, v), classes),
        forward_cost=forward_cost,
    )


def spearman_difference(
    ours: Floats,
    other: Floats,
    truth: Truth,
    *,
    quantity: str = "disagreement",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Spearman of `ours` minus that of `other`, both with the measured mean over the same units.

    Paired: both are computed in the same bootstrap samples of units and images. Scores are as in
    `score_rule`.
    """
    values = truth.values(quantity)
    ours, other = _checked(ours, truth, "ours"), _checked(other, truth, "other")

    def difference(first: Floats, second: Floats, mean: Floats) -> float:
        return spearman(first, mean) - spearman(second, mean)

    samples = [
        difference(ours[units], other[units], rows.mean(axis=0))
        for units, rows in _drawn(values, resamples, seed)
    ]
    value = difference(ours, other, values.mean(axis=0))
    tied = "all scores of a rule or all measured means are equal"
    return _percentile("difference of spearman", value, samples, len(values), level, tied)


def _checked(score: Floats, truth: Truth, rule: str) -> Floats:
    score = np.asarray(score, dtype=np.float64)
    units = len(truth.plans)
    if score.shape != (units,) or not np.isfinite(score).all():
        raise BridgeError(f"rule '{rule}' needs {units} finite scores, got {score.tolist()}")
    return score


def _drawn(values: Floats, resamples: int, seed: int) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Bootstrap samples: units (n_units,), and values (n_images, n_units) of them, by image."""
    rng, (images, units) = np.random.default_rng(seed), values.shape
    for _ in range(resamples):
        rows, columns = rng.integers(images, size=(images,)), rng.integers(units, size=(units,))
        yield columns, values[np.ix_(rows, columns)]


def _percentile(
    name: str, value: float, samples: list[float], n: int, level: float, undefined: str
) -> Estimate:
    """The value with its percentile interval over the samples in which it is defined."""
    defined = np.array([sample for sample in samples if not math.isnan(sample)])
    reason = ""
    if math.isnan(value):
        value, reason = math.nan, f"not defined: {undefined}"  # one object, equal to itself
    elif len(defined) < 0.9 * len(samples):
        reason = f"defined in {len(defined)} of {len(samples)} resamples only"
    interval = (-math.inf, math.inf)
    if defined.size and not math.isnan(value):
        tail = 50.0 * (1.0 - level)
        low, high = np.percentile(defined, [tail, 100.0 - tail])
        interval = (min(float(low), value), max(float(high), value))
    return Estimate(
        value=value,
        interval=interval,
        level=level,
        n=n,
        method=f"{name}, bootstrap over units and images",
        reliable=not reason,
        reason=reason,
        diagnostics={"resamples": len(samples), "defined": int(defined.size)},
    )


def auc(score: Floats, verdict: NDArray[np.int64]) -> float:
    """Probability that a harmful unit scores above a safe one; ties count one half.

    `score` and `verdict` are (n_units,). Undetermined units are left out; NaN without a safe or
    without a harmful unit.

    Source:
        Mann-Whitney form: Hanley and McNeil 1982, Radiology 143.

    Example:
        >>> auc(np.array([0.1, 0.2, 0.9]), np.array([SAFE, HARMFUL, HARMFUL]))
        1.0
    """
    safe, harmful = score[verdict == SAFE], score[verdict == HARMFUL]
    if not safe.size or not harmful.size:
        return math.nan
    gap = harmful[:, None] - safe[None, :]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())


def false_safe(score: Floats, verdict: NDArray[np.int64]) -> float:
    """Share of harmful units among the k lowest scores, where k units are safe.

    Undetermined units are left out; a perfect ranking has 0. Units tied at the cut count in
    proportion. NaN without a safe unit.

    Example:
        >>> false_safe(np.array([0.1, 0.2, 0.9]), np.array([HARMFUL, SAFE, SAFE]))
        0.5
    """
    determined = (verdict == SAFE) | (verdict == HARMFUL)
    score, harmful = score[determined], (verdict[determined] == HARMFUL).astype(np.float64)
    k = int(determined.sum() - harmful.sum())
    if not k:
        return math.nan
    cut = np.sort(score)[k - 1]
    below, tied = score < cut, score == cut
    return float((harmful[below].sum() + (k - below.sum()) * harmful[tied].mean()) / k)
