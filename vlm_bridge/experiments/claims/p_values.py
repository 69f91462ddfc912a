"""One-sided p-values of the tests of the protocol, each for the clause and against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from estimators import Estimate
from estimators.rank_correlation import partial_spearman, partial_spearman_rows
from theory.certificates.clopper_pearson import clopper_pearson_p_value
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.protocol import BLOCK, LEVEL

Floats = NDArray[np.float64]

#: Bootstrap samples of a test of ranks.
SAMPLES = 9_999
_UNDEFINED = "not defined: fewer than four units, ties, or an order that is that of depth"


@dataclass(frozen=True, eq=False)
class RankTest:
    """A rank correlation given depth, and its bootstrap samples.

    Attributes:
        value: the correlation; NaN if it is not defined.
        samples: (B,) the same in bootstrap samples; NaN where it is not defined.
        n: number of images behind it; of two scores, number of units.
        rotation_p: p-value over the rotations of our scores along the layers.
    """

    value: float
    samples: Floats
    n: int
    rotation_p: float

    @property
    def p(self) -> float:
        """`(1 + b) / (1 + B)` with b samples at or below 0; undefined ones count among them."""
        return self._share(~(self.samples > 0))

    @property
    def p_opposite(self) -> float:
        """The same with samples at or above 0."""
        return self._share(~(self.samples < 0))

    @property
    def estimate(self) -> Estimate:
        """The correlation with its percentile interval."""
        method = "partial spearman given depth, bootstrap over units and images"
        return percentile(method, self.value, self.samples, self.n, 1.0)

    def minus(self, null: RankTest) -> Estimate:
        """This correlation minus a null's, in the same bootstrap samples of units."""
        method = "difference of partial spearman given depth, same units"
        samples = self.samples - null.samples
        return percentile(method, self.value - null.value, samples, min(self.n, null.n), 2.0)

    def _share(self, against: NDArray[np.bool_]) -> float:
        if np.isnan(self.value):
            return 1.0
        return float((1 + against.sum()) / (1 + len(self.samples)))


def rank_test(
    scores: Floats, measured: Floats, depth: Floats, *, samples: int = SAMPLES, seed: int = 0
) -> RankTest:
    """Rank correlation of scores with a measured mean, given depth, by bootstrap.

    Args:
        scores: (n_units,) of our rule.
        measured: (n_images, n_units) share of an image's answers that each unit changes; or
            (n_units,) scores of another rule, which no image resamples.
        depth: (n_units,) place of each unit.
        samples: number of bootstrap samples, of units and of images apart. Units are drawn in
            circular blocks of three neighbours, which are alike.
        seed: tests with one seed and as many units draw the same units.

    Raises:
        BridgeError: shapes that do not match, or fewer than one sample.

    Source:
        Percentile bootstrap of both factors: Owen and Eckles 2012, Annals of Applied Statistics 6;
        circular blocks: Politis and Romano 1992.

    Example:
        >>> depth = np.arange(12.0)
        >>> scores = np.array([3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11.0])
        >>> rank_test(scores, scores, depth, samples=99).p
        0.01
    """
    rows = np.atleast_2d(np.asarray(measured, dtype=np.float64))
    scores, depth = (np.asarray(side, dtype=np.float64) for side in (scores, depth))
    units = len(scores)
    if rows.shape[1] != units or depth.shape != (units,) or scores.ndim != 1:
        shapes = f"{scores.shape}, {rows.shape} and {depth.shape}"
        raise BridgeError(f"scores, measured and depth must be about the same units, got {shapes}")
    if samples < 1:
        raise BridgeError(f"a bootstrap needs at least one sample, got samples={samples}")
    drawn = _blocks(units, samples, np.random.default_rng([seed, 0]))
    images = np.random.default_rng([seed, 1]).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), size=samples
    )
    harm = np.take_along_axis((images @ rows).round(9), drawn, axis=1)  # sums, so that ties stay
    mean = rows.sum(axis=0).round(9)
    value = partial_spearman(scores, mean, depth)
    return RankTest(
        value=value,
        samples=partial_spearman_rows(scores[drawn], harm, depth[drawn]),
        n=units if len(rows) == 1 else len(rows),
        rotation_p=_rotation_p(scores, mean, depth, value),
    )


def _blocks(units: int, samples: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(samples, units) places, drawn in circular blocks of neighbours."""
    starts = rng.integers(units, size=(samples, -(-units // BLOCK), 1))
    places = (starts + np.arange(BLOCK)) % units
    return np.asarray(places.reshape(samples, -1)[:, :units])


def _rotation_p(scores: Floats, mean: Floats, depth: Floats, value: float) -> float:
    """Share of rotations of the scores with at least so large a correlation; none is below 1/n."""
    if np.isnan(value):
        return 1.0
    turned = np.array([np.roll(scores, turn) for turn in range(len(scores))])
    found = partial_spearman_rows(
        turned, np.broadcast_to(mean, turned.shape), np.broadcast_to(depth, turned.shape)
    )
    return float((~(found < value - 1e-12)).mean())


def percentile(method: str, value: float, samples: Floats, n: int, bound: float) -> Estimate:
    """A value with its percentile interval; what is undefined may lie anywhere in [-bound, bound].

    So samples that are not defined widen the interval, as they raise both p-values.
    """
    undefined = np.isnan(samples)
    if math.isnan(value):
        return Estimate(
            value=math.nan, interval=(-math.inf, math.inf), level=LEVEL, n=n, method=method,
            reliable=False, reason=_UNDEFINED,
        )  # fmt: skip
    tail = 50.0 * (1.0 - LEVEL)
    low = float(np.percentile(np.where(undefined, -bound, samples), tail))
    high = float(np.percentile(np.where(undefined, bound, samples), 100.0 - tail))
    few = bool(undefined.mean() > 0.1)
    return Estimate(
        value=float(value),
        interval=(min(low, value), max(high, value)),
        level=LEVEL,
        n=n,
        method=method,
        reliable=not few,
        reason=f"undefined in {undefined.sum()} of {len(samples)} samples" if few else "",
    )


def share_p_values(changed: Sequence[float] | Floats, epsilon: float) -> tuple[float, float]:
    """p-values of "at least epsilon of the answers change" and of "at most epsilon".

    `P(X <= x)` and `P(X >= x)` with X binomial of the n images and epsilon; `changed` is (n,) zeros
    and ones, one for each image.

    Example:
        >>> [round(p, 4) for p in share_p_values([0.0] * 59, 0.05)]
        [0.0485, 1.0]
    """
    values = np.asarray(changed, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isin(values, (0.0, 1.0)).all():
        raise BridgeError("a share is tested on zeros and ones, one for each image")
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
    safe = float(clopper_pearson_p_value(values, epsilon))
    return safe, float(clopper_pearson_p_value(1.0 - values, 1.0 - epsilon))


def pairs_p_values(ratios: Sequence[float]) -> tuple[float, float]:
    """p-values of "the median ratio is at least 1" and of "at most 1", by the exact sign test.

    Example:
        >>> [round(p, 4) for p in pairs_p_values([0.9] * 5)]
        [0.0312, 1.0]
    """
    if not len(ratios):
        raise BridgeError("a sign test needs at least one pair")
    below = sum(ratio < 1 for ratio in ratios)
    above = sum(ratio > 1 for ratio in ratios)  # a tie counts for neither side
    n = len(ratios)
    return float(binom.sf(below - 1, n, 0.5)), float(binom.sf(above - 1, n, 0.5))


def rank_among(plan: float, drawn: Sequence[float] | Floats) -> tuple[float, float]:
    """p-values of "the plan is one of the random plans": for fewer changed answers, and for more.

        (1 + #{drawn <= plan}) / (1 + m),  (1 + #{drawn >= plan}) / (1 + m)

    Exact if the plan and the m random ones are exchangeable; at least 19 are needed for .05.

    Example:
        >>> rank_among(0.0, [0.1, 0.2, 0.3])
        (0.25, 1.0)
    """
    shares = np.asarray(drawn, dtype=np.float64)
    if shares.ndim != 1 or not shares.size or not 0 <= plan <= 1:
        raise BridgeError(f"a rank needs a share and random plans, got {plan} and {len(drawn)}")
    m = len(shares)
    return (
        float((1 + (shares <= plan + 1e-12).sum()) / (1 + m)),
        float((1 + (shares >= plan - 1e-12).sum()) / (1 + m)),
    )
