"""Systems of known truth: mutual information of continuous variables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import e as EULER

import numpy as np
from numpy.random import Generator
from scipy.integrate import quad

from benchmarks._reliable_given import SYSTEMS as GIVEN
from benchmarks._reliable_labels import SYSTEMS as WITH_LABELS
from benchmarks._reliable_system import System
from estimators import mutual_information, tasks
from estimators.estimate import Estimate

MI = "mutual information"
#: Information of x and y, nearly equal in a share of the rows, by (updated, n, d, share, noise):
#: by Monte Carlo over 400,000 rows.
OF_STILL = {
    (True, 2000, 1, 0.05, 0.001): 0.490,
    (True, 2000, 2, 0.05, 0.05): 0.792,
    (True, 2000, 6, 0.05, 0.01): 3.176,
    (True, 2000, 6, 0.05, 0.1): 2.489,
    (True, 2000, 10, 0.02, 0.001): 4.706,
    (False, 2000, 2, 0.05, 0.01): 0.262,
    (False, 2000, 6, 0.03, 0.01): 0.690,
}
#: I(X; a sin(k X) + E) of standard normal X and E, by (k, a): by numerical integration.
OF_SINE = {(4, 3): 0.789, (3, 2): 0.530, (4, 1): 0.202}
Pair = tuple[np.ndarray, np.ndarray]
MIX = np.random.default_rng(0).normal(size=(5, 5))
#: I(A B + .3 E; A, B) of standard normal A, B, E, by numerical integration.
OF_PRODUCT = 1.12704
#: I(A^2 + .3 E; A) likewise.
OF_SQUARE = 1.14105
#: Information of rows that share a scale exp(sigma N), by (sigma, d), likewise.
OF_SCALE = {(0.5, 2): 0.10054, (0.3, 8): 0.19377, (0.3, 30): 0.61014, (0.3, 200): 1.46331}


def asked(draw: Callable[[Generator], Pair], rng: Generator) -> Estimate:
    """The estimate of a drawn pair."""
    return mutual_information(*draw(rng))


def system(
    name: str, truth: float, draw: Callable[[Generator], Pair], *, benign: bool = False
) -> System:
    """A question about mutual information."""
    return System(name, MI, float(truth), partial(asked, draw), benign=benign)


def of_task(task: tasks.Task, n: int, rng: Generator) -> Estimate:
    """The estimate of a public task."""
    return mutual_information(*task.sample(n, seed=int(rng.integers(2**31))))


def turned(rows: np.ndarray, rng: Generator) -> np.ndarray:
    """Rows times a random invertible matrix."""
    return rows @ rng.normal(size=(rows.shape[1], rows.shape[1]))


def gaussian(
    n: int, d: int, rho: float, rng: Generator, *, pairs: int | None = None, turn: bool = False
) -> Pair:
    """`pairs` (default d) pairs of correlation rho among d + d columns, perhaps mixed."""
    x, y = rng.normal(size=(2, n, d))
    k = d if pairs is None else pairs
    y[:, :k] = rho * x[:, :k] + (1 - rho**2) ** 0.5 * y[:, :k]
    return (turned(x, rng), turned(y, rng)) if turn else (x, y)


def nats(rho: float) -> float:
    """Information of a Gaussian pair."""
    return -0.5 * float(np.log1p(-(rho**2)))


def copy(n: int, d: int, s: float, rng: Generator) -> Pair:
    """Gaussian x and x + s noise."""
    x = rng.normal(size=(n, d))
    return x, x + s * rng.normal(size=(n, d))


def copied(d: int, s: float) -> float:
    """Information of a Gaussian copy with noise of size s."""
    return 0.5 * d * float(np.log1p(s**-2))


def uniform_noise(n: int, d: int, s: float, rng: Generator) -> Pair:
    """Gaussian x and x + s uniform noise of unit variance."""
    x = rng.normal(size=(n, d))
    return x, x + s * rng.uniform(-(3**0.5), 3**0.5, size=(n, d))


def uniform_copy(n: int, d: int, s: float, rng: Generator) -> Pair:
    """Uniform x and x + uniform noise of width s: s/2 - ln s nats a column."""
    x = rng.random(size=(n, d))
    return x, x + s * (rng.random(size=(n, d)) - 0.5)


def mapped(step: Callable[[np.ndarray], np.ndarray], draw: Callable[[Generator], Pair]):
    """Both sides after a monotone map of every column, which leaves the information."""

    def mapped_pair(rng: Generator) -> Pair:
        x, y = draw(rng)
        return step(x), step(y)

    return mapped_pair


def column_shared(n: int, d: int, noise: float, rng: Generator) -> Pair:
    """Independent columns, but for one that y has of x, up to noise."""
    x, y = rng.normal(size=(2, n, d))
    y[:, 0] = x[:, 0] + noise * y[:, 0]
    return x, y


def determined(n: int, d: int, of: Callable[[np.ndarray], np.ndarray], rng: Generator) -> Pair:
    """X and a function of x."""
    x = rng.normal(size=(n, d))
    return x, of(x)


def gate(
    n: int, d: int, of: Callable[[np.ndarray], np.ndarray], rng: Generator, *, turn: bool = False
) -> Pair:
    """y_0 = f(x) + .3 noise among d independent columns."""
    x, y = rng.normal(size=(2, n, d))
    y[:, 0] = of(x) + 0.3 * y[:, 0]
    return (turned(x, rng), turned(y, rng)) if turn else (x, y)


def of_sign(noise: float) -> float:
    """Information of a fair sign and the sign plus Gaussian noise."""

    def term(t: float) -> float:
        p = np.exp(-0.5 * (np.array([t - 1, t + 1]) / noise) ** 2).sum()
        p /= 2 * noise * (2 * np.pi) ** 0.5
        return float(-p * np.log(p)) if p > 0 else 0.0

    points = (-1.0, 0.0, 1.0)
    h = quad(term, -1 - 12 * noise, 1 + 12 * noise, points=points, limit=200)[0]
    return float(h - 0.5 * np.log(2 * np.pi * EULER * noise**2))


def zeroed(n: int, d: int, share: float, rng: Generator) -> Pair:
    """Independent rows, a share of them 0 on both sides: the entropy of the share."""
    x, y = rng.normal(size=(2, n, d))
    off = rng.random(n) < share
    x[off] = y[off] = 0.0
    return x, y


def binary_entropy(p: float) -> float:
    """Entropy of a coin in nats."""
    return float(-p * np.log(p) - (1 - p) * np.log1p(-p))


def zeroed_alone(n: int, d: int, share: float, rng: Generator) -> Pair:
    """Independent rows, a share of those of x 0: no information."""
    x, y = rng.normal(size=(2, n, d))
    x[rng.random(n) < share] = 0.0
    return x, y


def still(updated: bool, n: int, d: int, share: float, s: float, rng: Generator) -> Pair:
    """Y is x + e, or independent; but in a share of the rows x + s e."""
    x, e = rng.normal(size=(2, n, d))
    y = x + e if updated else e.copy()
    rows = rng.random(n) < share
    y[rows] = x[rows] + s * e[rows]
    return x, y


def sine(n: int, d: int, k: float, a: float, rng: Generator) -> Pair:
    """y_0 = a sin(k x_0) + e_0 among d independent columns."""
    x, y = rng.normal(size=(2, n, d))
    y[:, 0] += a * np.sin(k * x[:, 0])
    return x, y


def student_pairs(n: int, d: int, degrees: int, rho: float, rng: Generator) -> Pair:
    """Independent pairs of columns, each of a bivariate Student law."""
    x, y = gaussian(n, d, rho, rng)
    scale = np.sqrt(degrees / rng.chisquare(degrees, size=(n, d)))
    return x * scale, y * scale


def with_few_digits(draw: Callable[[Generator], Pair], rng: Generator) -> Pair:
    """Both sides as bfloat16 holds them, with 8 bits."""
    x, y = (side.astype(np.float32).view(np.uint32) & 0xFFFF0000 for side in draw(rng))
    return x.view(np.float32).astype(float), y.view(np.float32).astype(float)


def digits(n: int, rng: Generator) -> Pair:
    """Two fair digits out of 4 that are equal in half of the rows: discrete."""
    a, b = rng.integers(0, 4, size=(2, n, 1))
    same = rng.random((n, 1)) < 0.5
    return a.astype(float), np.where(same, a, b).astype(float)


def scaled(n: int, d: int, sigma: float, rng: Generator) -> Pair:
    """Independent directions, one lognormal scale for both sides of a row."""
    x, y = rng.normal(size=(2, n, d))
    scale = np.exp(sigma * rng.normal(size=(n, 1)))
    return x * scale, y * scale


def repeated(n: int, d: int, rho: float, jitter: float, times: int, rng: Generator) -> Estimate:
    """Every pair `times` times up to jitter, with clusters."""
    x, y = gaussian(n, d, rho, rng)
    rows = [np.repeat(side, times, axis=0) for side in (x, y)]
    rows = [side + jitter * rng.normal(size=side.shape) for side in rows]
    return mutual_information(*rows, clusters=np.repeat(np.arange(n), times))


_COPIES = ((1000, 1, 0.1), (2000, 1, 0.03), (2000, 1, 1e-3), (2000, 3, 0.03), (2000, 3, 1e-3))
_COPIES += ((1000, 5, 0.1), (5000, 10, 0.01), (1500, 20, 0.02))
_DIGITS = 0.625 * np.log(2.5) + 0.375 * np.log(0.5)

CONTINUOUS: tuple[System, ...] = (
    *(
        System(
            f"Gaussian {d} + {d}, n = {n}, r = {rho}",
            MI,
            d * nats(rho),
            partial(asked, partial(gaussian, n, d, rho)),
            benign=True,
            suite="gaussians",
        )
        for n, d, rho in ((1000, 1, 0.0), (1000, 2, 0.6), (1000, 10, 0.3), (2500, 25, 0.5))
    ),
    *(
        System(
            f"mixed Gaussian {d} + {d}, n = {n}, {k} pairs of .8",
            MI,
            k * nats(0.8),
            partial(asked, partial(gaussian, n, d, 0.8, pairs=k, turn=True)),
            benign=True,
            suite="gaussians" if n >= max(1000, 50 * 2 * d) else "",
        )
        for n, d, k in ((1500, 30, 1), (1500, 30, 3), (3000, 30, 3), (1000, 5, 2), (2000, 10, 10))
    ),
    *(
        system(
            f"{name} of Gaussian pairs, {d} + {d}",
            d * nats(0.6),
            mapped(step, partial(gaussian, 2000, d, 0.6)),
            benign=True,
        )
        for name, step in (("cubes", lambda x: x**3), ("exponentials", np.exp))
        for d in (1, 6)
    ),
    *(
        system(f"near copy {d} + {d}, n = {n}, s = {s:g}", copied(d, s), partial(copy, n, d, s))
        for n, d, s in _COPIES
    ),
    *(
        system(
            f"exponentials of a near copy {d} + {d}, s = {s:g}",
            copied(d, s),
            mapped(np.exp, partial(copy, 2000, d, s)),
        )
        for d, s in ((1, 0.03), (4, 0.03), (4, 1e-4))
    ),
    *(
        system(
            f"near copy {d} + {d} with uniform noise, s = {s:g}",
            d * (0.5 * np.log(2 * np.pi * EULER * (1 + s * s)) - np.log(2 * 3**0.5 * s)),
            partial(uniform_noise, 2000, d, s),
        )
        for d, s in ((1, 0.03), (5, 0.03))
    ),
    *(
        system(
            f"uniform copy {d} + {d}, width {s:g}",
            d * (s / 2 - np.log(s)),
            partial(uniform_copy, 2000, d, s),
        )
        for d, s in ((1, 0.03), (4, 0.03), (4, 0.3))
    ),
    *(
        system(name, np.inf, partial(determined, n, d, of))
        for name, n, d, of in (
            ("x and x, 10 columns", 500, 10, np.positive),
            ("x and exp(x), 250 rows", 250, 1, np.exp),
            ("x and 2 x + 1, 200 rows", 200, 1, lambda x: 2 * x + 1),
            ("x and its mixed columns, 5 columns", 1000, 5, lambda x: x @ MIX),
        )
    ),
    system("one column shared of 10", np.inf, partial(column_shared, 2000, 10, 0.0)),
    system(
        "one column of 10 shared up to 1e-9",
        copied(1, 1e-9),
        partial(column_shared, 2000, 10, 1e-9),
    ),
    system(
        "one column of 3 shared up to 1e-3", copied(1, 1e-3), partial(column_shared, 2000, 3, 1e-3)
    ),
    *(
        system(name, truth, partial(gate, n, d, of, turn=turn))
        for name, truth, n, d, of, turn in (
            (
                "product of 2 columns, 8 + 8",
                OF_PRODUCT,
                2000,
                8,
                lambda x: x[:, 0] * x[:, 1],
                False,
            ),
            (
                "product, columns mixed, 8 + 8",
                OF_PRODUCT,
                2000,
                8,
                lambda x: x[:, 0] * x[:, 1],
                True,
            ),
            (
                "product, columns mixed, 20 + 20",
                OF_PRODUCT,
                2000,
                20,
                lambda x: x[:, 0] * x[:, 1],
                True,
            ),
            (
                "product of 2 columns, 2 + 2",
                OF_PRODUCT,
                2000,
                2,
                lambda x: x[:, 0] * x[:, 1],
                False,
            ),
            ("square of a column, 4 + 4", OF_SQUARE, 1000, 4, lambda x: x[:, 0] ** 2, False),
            (
                "parity of 2 signs, 2 + 2",
                of_sign(0.3),
                2000,
                2,
                lambda x: np.sign(x[:, 0] * x[:, 1]),
                False,
            ),
            (
                "parity of 3 signs, 6 + 6",
                of_sign(0.3),
                2000,
                6,
                lambda x: np.sign(x[:, :3].prod(1)),
                False,
            ),
            (
                "parity of 5 signs, 6 + 6",
                of_sign(0.3),
                2000,
                6,
                lambda x: np.sign(x[:, :5].prod(1)),
                False,
            ),
        )
    ),
    *(
        system(
            f"{share:.1%} of the rows 0 on both sides, {d} + {d}",
            binary_entropy(share),
            partial(zeroed, n, d, share),
        )
        for n, d, share in ((5000, 1, 0.02), (5000, 2, 0.005), (3000, 4, 0.02), (3000, 8, 0.005))
    ),
    *(
        system(
            f"{share:.0%} of the rows {'hardly updated' if updated else 'copied, the rest apart'}, "
            f"{d} + {d}, s = {s:g}",
            truth,
            partial(still, updated, n, d, share, s),
        )
        for (updated, n, d, share, s), truth in OF_STILL.items()
    ),
    *(
        system(f"{a} sin({k} x) of a column, {d} + {d}", truth, partial(sine, 2000, d, k, a))
        for (k, a), truth in OF_SINE.items()
        for d in (3, 6)
    ),
    # By pair -ln(1 - r^2)/2 and the closed form of the Student law.
    system("10 Student pairs, 8 degrees, r = .5", 1.510, partial(student_pairs, 1500, 10, 8, 0.5)),
    *(
        system(
            f"Gaussian {d} + {d} in bfloat16, r = .5",
            d * nats(0.5),
            partial(with_few_digits, partial(gaussian, 2000, d, 0.5)),
            benign=True,
        )
        for d in (2, 10)
    ),
    system("2 % of the rows of x 0, 1 + 1", 0.0, partial(zeroed_alone, 5000, 1, 0.02)),
    system("half of the rows of x 0, 3 + 3", 0.0, partial(zeroed_alone, 2000, 3, 0.5)),
    system("equal digits as numbers", _DIGITS, partial(digits, 2000)),
    *(
        system(f"shared scale {d} + {d}, sigma = {sigma}", truth, partial(scaled, 2000, d, sigma))
        for (sigma, d), truth in OF_SCALE.items()
    ),
    *(
        System(
            f"every pair {times} times, {d} + {d}, r = {rho}, jitter {jitter:g}",
            MI,
            d * nats(rho),
            partial(repeated, n, d, rho, jitter, times),
            benign=benign,
        )
        for n, d, rho, jitter, times, benign in (
            (1000, 1, 0.0, 0.0, 5, True),
            (1000, 1, 0.5, 1e-6, 5, True),
            (1000, 5, 0.5, 0.0, 3, True),
            (300, 2, 0.5, 1e-3, 10, False),
        )
    ),
    *(
        System(
            f"task {task.id}, n = {n}",
            MI,
            task.mutual_information,
            partial(of_task, task, n),
            suite=suite,
        )
        for n, suite in ((2_000, ""), (10_000, "tasks"))
        for task in tasks.TASKS
    ),
)
SYSTEMS: tuple[System, ...] = (*CONTINUOUS, *WITH_LABELS, *GIVEN)
