"""Systems of known truth: information of continuous columns about a label."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator
from scipy.integrate import quad

from benchmarks._reliable_system import System
from estimators import mutual_information
from estimators.estimate import Estimate

VERB = "information about a label"
LN2 = float(np.log(2.0))
Drawn = tuple[np.ndarray, np.ndarray]


def asked(draw: Callable[[Generator], Drawn], rng: Generator) -> Estimate:
    """The estimate of drawn rows and labels."""
    return mutual_information(*draw(rng))


def of_shift(mu: float) -> float:
    """Information of N(+-mu, 1) about the sign of its mean."""

    def term(t: float) -> float:
        p = np.exp(-0.5 * (np.array([t - mu, t + mu])) ** 2).sum() / (2 * (2 * np.pi) ** 0.5)
        return float(-p * np.log(p)) if p > 0 else 0.0

    return float(quad(term, -mu - 12, mu + 12, limit=200)[0] - 0.5 * np.log(2 * np.pi * np.e))


def shift(n: int, d: int, mu: float, rng: Generator) -> Drawn:
    """Two classes a distance of 2 mu apart in one of d columns."""
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, d))
    x[:, 0] += mu * (2 * y - 1)
    return x, y


def border(n: int, d: int, flipped: float, rng: Generator) -> Drawn:
    """The sign of a column, flipped in a share of the rows."""
    x = rng.normal(size=(n, d))
    return x, (x[:, 0] > 0) ^ (rng.random(n) < flipped)


def checkerboard(n: int, d: int, rng: Generator) -> Drawn:
    """The parity of the signs of two of d columns."""
    x = rng.normal(size=(n, d))
    return x, x[:, 0] * x[:, 1] > 0


def stripes(n: int, rng: Generator) -> Drawn:
    """Eight stripes of alternating class on the unit interval."""
    x = rng.random((n, 1))
    return x, (8 * x[:, 0]).astype(int) % 2


def zero_inflated(n: int, d: int, share: float, rng: Generator) -> Drawn:
    """A share of the rows exactly 0; labels are independent."""
    x = rng.normal(size=(n, d))
    x[rng.random(n) < share] = 0.0
    return x, rng.integers(0, 2, n)


def zeros_of_a_class(n: int, share: float, rng: Generator) -> Drawn:
    """One class has 0 in a share of its rows, the other never."""
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 1))
    x[(y == 1) & (rng.random(n) < share)] = 0.0
    return x, y


def of_zeros(share: float) -> float:
    """Information of `zeros_of_a_class`: ln 2 - H(Y | X)."""
    zero, other = share / 2, (1 - share) / 2
    rest = 1 - zero
    uncertain = -sum(p / rest * np.log(p / rest) for p in (other, 0.5))
    return float(LN2 - rest * uncertain)


def binary_feature(n: int, rng: Generator) -> Drawn:
    """A column of two values, independent of the label."""
    return rng.integers(0, 2, (n, 1)).astype(float), rng.integers(0, 2, n)


def rare(n: int, rng: Generator) -> Drawn:
    """A column of which one row differs, and a label of 2 % of the rows."""
    x = np.ones((n, 1))
    x[-1] = 2.0
    return x, rng.random(n) < 0.02


def per_image(
    d: int, images: int, tokens: int, shared: float, rng: Generator, *, informed: bool = False
) -> Estimate:
    """Tokens of an image share a part of their state, and a label that it may determine."""
    image = np.repeat(np.arange(images), tokens)
    states = rng.normal(size=(images, d))
    labels = states[:, 0] > 0 if informed else rng.integers(0, 2, images)
    x = np.sqrt(shared) * states[image] + np.sqrt(1 - shared) * rng.normal(size=(len(image), d))
    return mutual_information(x, labels[image], clusters=image)


def coin(p: float) -> float:
    """Entropy of a coin in nats."""
    return float(-p * np.log(p) - (1 - p) * np.log1p(-p))


def of(name: str, truth: float, draw: Callable[[Generator], Drawn], benign: bool = False) -> System:
    """A question about labels."""
    return System(name, VERB, float(truth), partial(asked, draw), benign=benign)


SYSTEMS: tuple[System, ...] = (
    *(
        of(f"two classes {2 * mu} apart, {d} columns", of_shift(mu), partial(shift, n, d, mu), True)
        for n, d, mu in ((2000, 1, 0.5), (1000, 1, 1.5), (2000, 2, 1.0), (2000, 3, 0.0))
    ),
    *(
        of(f"sign of a column of {d}, n = {n}", LN2, partial(border, n, d, 0.0), d == 1)
        for n, d in ((1000, 1), (2000, 2), (2000, 3), (1000, 10))
    ),
    *(
        of(
            f"sign of a column of {d}, a tenth flipped",
            LN2 - coin(0.1),
            partial(border, 2000, d, 0.1),
        )
        for d in (1, 3, 6)
    ),
    *(
        of(f"parity of two signs, {d} columns", LN2, partial(checkerboard, 2000, d))
        for d in (2, 3, 6)
    ),
    of("eight stripes of two classes", LN2, partial(stripes, 1000)),
    *(
        of(
            f"{share:.0%} zeros, {d} columns, independent label",
            0.0,
            partial(zero_inflated, n, d, share),
        )
        for n, d, share in ((5000, 1, 0.02), (2000, 2, 0.3), (3000, 3, 0.04))
    ),
    *(
        of(
            f"{share:.0%} zeros in one class",
            of_zeros(share),
            partial(zeros_of_a_class, 3000, share),
        )
        for share in (0.04, 0.4)
    ),
    of("binary column, independent label", 0.0, partial(binary_feature, 2000)),
    of("nearly constant column", 0.0, partial(rare, 5000)),
    *(
        System(
            f"label of an image, {d} columns, {images} x {tokens}, {shared:.0%} shared",
            VERB,
            0.0,
            partial(per_image, d, images, tokens, shared),
        )
        for d, images, tokens, shared in (
            (2, 100, 20, 0.9),
            (3, 100, 20, 0.9),
            (3, 50, 40, 0.9),
            (1, 400, 10, 0.5),
            (8, 100, 20, 0.9),
        )
    ),
)
