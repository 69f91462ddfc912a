"""Error rate and power of every certificate on clustered data, 2,000 runs each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from benchmarks._guarantees import guarantees
from theory.certificates.bentkus import bentkus_p_value
from theory.certificates.bernstein import bernstein_p_value
from theory.certificates.betting import betting_p_value
from theory.certificates.families import CONTROLS, rejected
from theory.certificates.hoeffding import hoeffding_p_value
from theory.certificates.tango import tango_score

Floats = NDArray[np.float64]

EPSILON, DELTA = 0.02, 0.05
QUESTIONS = 10
CORRELATIONS = (0.0, 0.1, 0.3)
#: name -> (disagreement rate, share of the changed answers that are harmed); the drop is
#: rate * (2 * share - 1). "inside", "at" and "outside" speak of the quantity that is certified.
DISAGREEMENTS = {"inside": (0.01, 0.5), "at": (0.02, 0.5), "outside": (0.03, 0.5)}
DROPS = {"inside": (0.01, 0.5), "at": (0.04, 0.75), "outside": (0.05, 0.8)}

#: Not certificates: one treats questions as images, the other is asymptotic.
NOT_VALID = ("question-level clopper-pearson", "tango (asymptotic)")


@dataclass(frozen=True)
class Row:
    """One certificate at one truth.

    Attributes:
        quantity: "disagreement" or "accuracy_drop".
        method: the bound.
        truth: "inside", "at" or "outside" the limit epsilon.
        value: the true value.
        correlation: intra-image correlation of the questions.
        runs: number of simulated data sets.
        missed: share of runs whose bound lies below the truth; must not exceed delta.
        certified: share of runs whose bound is at most epsilon: the power where the truth is
            inside, a wrong certificate where it is outside.
    """

    quantity: str
    method: str
    truth: str
    value: float
    correlation: float
    runs: int
    missed: float
    certified: float


def most_misses(runs: int, delta: float = DELTA) -> float:
    """Share of misses that a valid certificate exceeds once in 10,000 such simulations."""
    return float(stats.binom.ppf(0.9999, runs, delta)) / runs


def simulate(
    rng: np.random.Generator, runs: int, n: int, rate: float, share: float, correlation: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Harmed and helped answers of every image, of `QUESTIONS`; arrays of shape (runs, n)."""
    if correlation == 0.0:
        rates: float | Floats = rate
    else:
        weight = 1.0 / correlation - 1.0
        rates = rng.beta(rate * weight, (1.0 - rate) * weight, size=(runs, n))
    changed = rng.binomial(QUESTIONS, rates, size=(runs, n))
    harmed = rng.binomial(changed, share)
    return harmed, changed - harmed


def draw_one(
    rng: np.random.Generator, harmed: NDArray[np.int64], helped: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The drop of one question drawn from each image: -1, 0 or 1, shape (runs, n)."""
    place = rng.integers(QUESTIONS, size=harmed.shape)
    return (place < harmed).astype(np.int64) - ((place >= harmed) & (place < harmed + helped))


PValue = Callable[[float], Floats]


def disagreement_methods(
    harmed: NDArray[np.int64], helped: NDArray[np.int64], one: NDArray[np.int64]
) -> dict[str, PValue]:
    """The p-values of all runs, by method, as functions of the limit to be refuted."""
    means = (harmed + helped) / QUESTIONS
    n = means.shape[1]
    count, pooled = np.abs(one).sum(axis=1), (harmed + helped).sum(axis=1)
    return {
        "clopper-pearson": lambda limit: stats.binom.cdf(count, n, limit),
        "hoeffding-bentkus": lambda limit: bentkus_p_value(means, limit),
        "betting": lambda limit: betting_p_value(means, limit, delta=DELTA),
        "empirical-bernstein": lambda limit: bernstein_p_value(means, limit),
        "hoeffding": lambda limit: hoeffding_p_value(means, limit),
        NOT_VALID[0]: lambda limit: stats.binom.cdf(pooled, n * QUESTIONS, limit),
    }


def drop_methods(
    harmed: NDArray[np.int64], helped: NDArray[np.int64], one: NDArray[np.int64]
) -> dict[str, PValue]:
    """As `disagreement_methods`, for the accuracy drop."""
    means = (harmed - helped) / QUESTIONS
    n = means.shape[1]
    lost, won = (one == 1).sum(axis=1), (one == -1).sum(axis=1)

    def tango(limit: float) -> Floats:
        scores = [tango_score(int(b), int(c), n, limit) for b, c in zip(lost, won, strict=True)]
        return np.asarray(stats.norm.cdf(scores))

    return {
        "label-free clopper-pearson": lambda limit: stats.binom.cdf(lost + won, n, limit),
        "harm": lambda limit: stats.binom.cdf(lost, n, limit),
        "betting": lambda limit: betting_p_value(means, limit, low=-1.0, high=1.0, delta=DELTA),
        "hoeffding-bentkus": lambda limit: bentkus_p_value(means, limit, low=-1.0, high=1.0),
        "empirical-bernstein": lambda limit: bernstein_p_value(means, limit, low=-1.0, high=1.0),
        "hoeffding": lambda limit: hoeffding_p_value(means, limit, low=-1.0, high=1.0),
        NOT_VALID[1]: tango,
    }


def rows(runs: int, n: int, seed: int) -> Iterator[Row]:
    """All certificates at all truths and correlations."""
    settings = [
        (quantity, truth, rate, share, correlation)
        for quantity, truths in (("disagreement", DISAGREEMENTS), ("accuracy_drop", DROPS))
        for truth, (rate, share) in truths.items()
        for correlation in CORRELATIONS
    ]
    console = Console(stderr=True)
    for number, (quantity, truth, rate, share, correlation) in enumerate(
        track(settings, "simulated settings", console=console, disable=not console.is_terminal)
    ):
        rng = np.random.default_rng([seed, number])
        harmed, helped = simulate(rng, runs, n, rate, share, correlation)
        one = draw_one(rng, harmed, helped)
        value = rate if quantity == "disagreement" else rate * (2.0 * share - 1.0)
        methods = disagreement_methods if quantity == "disagreement" else drop_methods
        for method, p_value in methods(harmed, helped, one).items():
            yield Row(
                quantity=quantity,
                method=method,
                truth=truth,
                value=value,
                correlation=correlation,
                runs=runs,
                missed=float((p_value(value) < DELTA).mean()),
                certified=float((p_value(EPSILON) <= DELTA).mean()),
            )


def family_rows(runs: int, n: int, seed: int, plans: int = 8) -> Iterator[dict[str, object]]:
    """Learn then Test on plans of which the second half is just unsafe, on the same images."""
    rng = np.random.default_rng([seed, 1000])
    rates = np.where(np.arange(plans) < plans // 2, 0.005, 0.0201)  # the safest first
    # One uniform number per image makes the plans as dependent as they can be.
    shared = rng.random((runs, n))
    counts = np.stack([(shared < rate).sum(axis=1) for rate in rates], axis=1)
    p_values = stats.binom.cdf(counts, n, EPSILON)
    for control in CONTROLS:
        found = [rejected(row, DELTA, control=control) for row in p_values]
        wrong = [any(rates[j] > EPSILON for j in one) for one in found]
        safe = [sum(rates[j] <= EPSILON for j in one) for one in found]
        yield {
            "control": control,
            "plans": plans,
            "runs": runs,
            "wrong_certificate": float(np.mean(wrong)),
            "certified_of_safe": float(np.mean(safe)) / (plans / 2),
        }


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(
        description="Monte Carlo of every certificate: how often its bound lies below the truth "
        f"(guaranteed: at most {DELTA:g}), and how often it certifies epsilon = {EPSILON:g}. "
        f"Each image has {QUESTIONS} questions whose answers change alike.",
        epilog="example: python benchmarks/certificates.py --runs 2000 --images 1000 --json",
    )
    parser.add_argument("--runs", type=int, default=2000, help="data sets per setting (2000)")
    parser.add_argument("--images", type=int, default=1000, help="images per data set (1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="strict JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.images < 2:
        parser.error("give at least 1 run and 2 images")
    made = list(rows(options.runs, options.images, options.seed))
    families = list(family_rows(options.runs, options.images, options.seed))
    others = list(guarantees(options.runs, options.seed))
    if options.json:
        result = {
            "epsilon": EPSILON,
            "delta": DELTA,
            "images": options.images,
            "questions_per_image": QUESTIONS,
            "seed": options.seed,
            "certificates": [asdict(row) for row in made],
            "families": families,
            "guarantees": [asdict(each) for each in others],
        }
        sys.stdout.write(json.dumps(result, indent=1, allow_nan=False) + "\n")
        return
    limit = most_misses(options.runs)
    table = Table(title=f"{options.images} images, {options.runs} runs, delta {DELTA:g}")
    for name in ("quantity", "method", "truth", "value", "correlation", "missed", "certified"):
        table.add_column(name)
    for row in made:
        flag = " !" if row.missed > limit else ""
        cells = (row.quantity, row.method, row.truth, f"{row.value:.3f}", f"{row.correlation:g}")
        table.add_row(*cells, f"{row.missed:.4f}{flag}", f"{row.certified:.3f}")
    console = Console(width=120)
    console.print(table)
    for family in families:
        console.print(family)
    table = Table(title=f"Guarantees of several looks, groups, risks: {options.runs} users each")
    for name in ("guarantee", "truth", "wrong"):
        table.add_column(name)
    for each in others:
        flag = " !" if each.wrong > each.most else ""
        table.add_row(each.name, each.truth, f"{each.wrong:.4f}{flag}")
    console.print(table)


if __name__ == "__main__":
    main()
