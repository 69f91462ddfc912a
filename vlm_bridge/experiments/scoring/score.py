"""One rule against the truth of one model and mode, with intervals over images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate
from estimators.rank_correlation import spearman
from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.scoring.ranking import auc, false_safe
from vlm_bridge.experiments.scoring.truth import HARMFUL, SAFE, UNDETERMINED, Truth, verdicts

RESAMPLES = 1000
#: From verdicts (n_units,) and measured means (n_units,) to a number.
Figure = Callable[[NDArray[np.int64], NDArray[np.float64]], float]


@dataclass(frozen=True)
class RuleScore(Record):
    """What a rule's ranking of units is worth, in one mode of one model.

    Attributes:
        rule: its name.
        requires: what it looked at: "nothing", "forward pass", "candidate runs" or "labels".
        mode: of the units.
        model: name of the model.
        quantity: "disagreement" or "drop".
        epsilon: a unit is safe below, harmful above, and undetermined across.
        safe: number of units whose interval lies below epsilon.
        harmful: above.
        undetermined: across; they count in no figure but `spearman`.
        auc: probability that a harmful unit scores above a safe one.
        spearman: rank correlation with the measured mean, over all units.
        false_safe: harmful share of what the rule would skip, at as many units as are safe.
        forward_cost: what it cost, in forward passes over its images.
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
    false_safe: Estimate
    forward_cost: float


_FIGURES = ("auc", "spearman", "false_safe")


def score_rule(
    score: NDArray[np.float64],
    truth: Truth,
    *,
    rule: str,
    requires: str,
    model: str,
    epsilon: float,
    quantity: str = "disagreement",
    forward_cost: float = 0.0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RuleScore:
    """Score a rule; intervals by resampling whole images, truth and verdicts taken again each time.

    Args:
        score: (n_units,) the rule's scores, the lower, the safer, in the order of `truth.plans`.
        truth: measured on images the rule has not seen.
        rule: its name.
        requires: what it looked at.
        model: name of the model.
        epsilon: the line between safe and harmful.
        quantity: "disagreement" or "drop".
        forward_cost: what the rule cost.
        level: of the verdicts' intervals and of those reported.
        resamples: of the images.
        seed: of the resampling.

    Raises:
        BridgeError: scores that are not one finite number for each unit, epsilon outside (0, 1),
            or a quantity that was not measured.

    Source:
        Percentile bootstrap with the image as unit: Field and Welsh 2007, Bootstrapping clustered
        data, J. R. Stat. Soc. B 69.
    """
    score = np.asarray(score, dtype=np.float64)
    if score.shape != (len(truth.plans),) or not np.isfinite(score).all():
        raise BridgeError(
            f"rule '{rule}' needs {len(truth.plans)} finite scores, got {score.tolist()}"
        )
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
    values = truth.values(quantity)
    n = len(values)
    verdict = verdicts(values, quantity, epsilon, level)
    rng = np.random.default_rng(seed)
    drawn = [values[rng.integers(n, size=n)] for _ in range(resamples)]
    again = [(verdicts(one, quantity, epsilon, level), one.mean(axis=0)) for one in drawn]

    def figure(
        name: str, of: Callable[[NDArray[np.int64], NDArray[np.float64]], float]
    ) -> Estimate:
        value = of(verdict, values.mean(axis=0))
        return _percentile(name, value, [of(*one) for one in again], n, level)

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
        auc=figure("auc", lambda v, _: auc(score, v)),
        spearman=figure("spearman", lambda _, mean: spearman(score, mean)),
        false_safe=figure("false-safe", lambda v, _: false_safe(score, v)),
        forward_cost=forward_cost,
    )


def _percentile(name: str, value: float, again: list[float], n: int, level: float) -> Estimate:
    """The value with percentile ends over resamples in which it is defined."""
    defined = np.array([one for one in again if not math.isnan(one)])
    reason = ""
    if math.isnan(value):
        reason = "not defined: no unit is safe, or none is harmful"
    elif len(defined) < 0.9 * len(again):
        reason = f"defined in {len(defined)} of {len(again)} resamples only"
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
        method=f"{name}, bootstrap over images",
        reliable=not reason,
        reason=reason,
        diagnostics={"resamples": len(again), "defined": int(defined.size)},
    )
