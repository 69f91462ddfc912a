"""How many images, layers and random plans the tests of docs/protocol.md need.

    python -m benchmarks.power

Three tables. Images with which a plan is certified with a wanted probability if its true rate is
half of epsilon (exact binomial). Probability that the interval of a rank correlation given depth
lies above zero, by units and by the true correlation, and how often it does with none (simulated:
units are drawn from a Gaussian copula of depth, score and harm, images from their rates).
Probability that a plan is shown to change fewer answers than random plans, by its rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks import _help
from benchmarks._table import report
from theory import images_for_power
from vlm_bridge.experiments.claims.p_values import rank_among
from vlm_bridge.experiments.scoring import Truth, score_rule
from vlm_bridge.plan.units import units

EPSILONS, DELTA, POWER = (0.02, 0.05, 0.1), 0.05, 0.8
#: Correlation of depth with score and with harm, as a model with graded harm has.
OF_DEPTH = 0.6


def certificates() -> list[dict[str, Any]]:
    """Images per epsilon."""
    rows = []
    for epsilon in EPSILONS:
        n = images_for_power(epsilon, DELTA, POWER, harmed=epsilon / 2)
        rows.append({"test": "certificate", "epsilon": epsilon, "true": epsilon / 2, "images": n})
    return rows


def ranks(
    sizes: Sequence[int], correlations: Sequence[float], images: int, runs: int, seed: int
) -> list[dict[str, Any]]:
    """How often the interval of the partial rank correlation lies above zero."""
    rng, rows = np.random.default_rng(seed), []
    for n in sizes:
        for partial in correlations:
            above = sum(_above(n, partial, images, rng) for _ in range(runs))
            rows.append(
                {"test": "rank given depth", "units": n, "partial": partial, "images": images}
                | {"above zero": above / runs, "runs": runs}
            )
    return rows


def _above(n: int, partial: float, images: int, rng: np.random.Generator) -> bool:
    """Whether one experiment of n units shows a positive correlation given depth."""
    depth, own = rng.normal(size=n), rng.normal(size=(2, n))
    rest = (1 - OF_DEPTH**2) ** 0.5
    score = OF_DEPTH * depth + rest * own[0]
    mixed = partial * own[0] + (1 - partial**2) ** 0.5 * own[1]
    rates = ndtr(OF_DEPTH * depth + rest * mixed - 1.0)
    order = np.argsort(depth)
    changed = (rng.random((images, n)) < rates[order]).astype(float)
    truth = Truth(tuple(units("block", n)), changed, None, tuple(map(str, range(images))))
    found = score_rule(
        score[order], truth, rule="simulated", requires="nothing", model="none", epsilon=0.05,
        resamples=200, seed=int(rng.integers(1 << 30)),
    ).partial  # fmt: skip
    return found.reliable and found.interval[0] > 0


def random_plans(
    draws: Sequence[int], gaps: Sequence[float], images: int, runs: int, seed: int
) -> list[dict[str, Any]]:
    """How often a plan's rank among random plans shows that it changes fewer answers.

    Rates of random plans are Beta(1, 4), scaled so that their mean lies `gap` above the plan's .03.
    """
    rng, rows = np.random.default_rng(seed), []
    for n in draws:
        for gap in gaps:
            shown = sum(_better(n, gap, images, rng) <= 0.05 for _ in range(runs))
            rows.append(
                {"test": "better than random plans", "draws": n, "gap": gap, "images": images}
                | {"shown": shown / runs, "runs": runs}
            )
    return rows


def _better(n: int, gap: float, images: int, rng: np.random.Generator) -> float:
    """p-value of the plan's rank, from measured rates; without a gap it is one of the draws."""
    rates: NDArray[np.float64] = np.minimum(rng.beta(1, 4, size=n) * 5 * (0.03 + gap), 1)
    drawn = rng.binomial(images, rates) / images
    own = 0.03 if gap else min(float(rng.beta(1, 4)) * 5 * 0.03, 1)
    return rank_among(rng.binomial(images, own) / images, drawn)[0]


def main() -> None:
    """Compute and print."""
    parser = _help.parser("power", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--runs", type=int, default=200, help="simulated experiments of a row")
    parser.add_argument("--images", type=int, default=200, help="test images of an experiment")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    runs, images, seed = options.runs, options.images, options.seed
    tables = {
        f"images for power {POWER:g}, delta {DELTA:g}": certificates(),
        "rank correlation given depth": ranks(
            (8, 16, 30), (0.0, 0.3, 0.5, 0.7), images, runs, seed
        ),
        "better than random plans": random_plans((20, 100), (0.0, 0.05, 0.1), images, runs, seed),
    }
    for title, rows in tables.items():
        report(title, rows, as_json=options.json, runs=runs, images=images, seed=seed)


if __name__ == "__main__":
    main()
