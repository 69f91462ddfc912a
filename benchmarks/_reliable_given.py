"""Systems of known truth: conditional mutual information."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator

from benchmarks._reliable_system import System
from estimators import conditional_mutual_information
from estimators.estimate import Estimate

VERB = "conditional mutual information"
#: E ln(1 + Z^2 / .09) / 2 of a standard normal Z, by numerical integration.
OF_GATE = 0.904819
#: I(X; 2 sin(4 X) + E) of standard normal X and E, likewise.
OF_SINE = 0.530
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def asked(draw: Callable[[Generator], Triple], rng: Generator) -> Estimate:
    """The estimate of a drawn triple."""
    return conditional_mutual_information(*draw(rng))


def shared_noise(n: int, d: int, s: float, rng: Generator) -> Triple:
    """X = z + u, y = z + u + s e: d/2 ln(1 + s^-2) given z."""
    z, u, e = rng.normal(size=(3, n, d))
    return z + u, z + u + s * e, z


def chain(n: int, d: int, s: float, rng: Generator) -> Triple:
    """X -> z -> y with noise s: nothing given z."""
    x, e, f = rng.normal(size=(3, n, d))
    z = x + s * e
    return x, z + s * f, z


def mapped(step: Callable[[np.ndarray], np.ndarray], draw: Callable[[Generator], Triple]):
    """All three after a monotone map of every column, which leaves the information."""

    def mapped_triple(rng: Generator) -> Triple:
        x, y, z = draw(rng)
        return step(x), step(y), step(z)

    return mapped_triple


def common(
    n: int, d: int, of: Callable[[np.ndarray], np.ndarray], rng: Generator, *, turn: bool = False
) -> Triple:
    """X and y are the same function of z, each with its own noise: nothing given z."""
    z = rng.normal(size=(n, d))
    x, y = (of(z)[:, None] + 0.3 * rng.normal(size=(n, 1)) for _ in range(2))
    return x, y, z @ rng.normal(size=(d, d)) if turn else z


def products(z: np.ndarray) -> np.ndarray:
    """Sum of the products of neighbouring columns."""
    return (z[:, ::2] * z[:, 1::2]).sum(axis=1) / (z.shape[1] / 2) ** 0.5


def gate(n: int, d: int, rng: Generator) -> Triple:
    """Y = x z_0 + .3 noise: OF_GATE given z."""
    x, e = rng.normal(size=(2, n, 1))
    z = rng.normal(size=(n, d))
    return x, x * z[:, :1] + 0.3 * e, z


def sine(n: int, rng: Generator) -> Triple:
    """Y = z_0 + 2 sin(4 x) + noise, z of 4 columns: OF_SINE."""
    x, e = rng.normal(size=(2, n, 1))
    z = rng.normal(size=(n, 4))
    return x, z[:, :1] + 2.0 * np.sin(4.0 * x) + e, z


def repeated(n: int, times: int, rng: Generator) -> Estimate:
    """`shared_noise` with every row several times, and clusters."""
    rows = [np.repeat(side, times, axis=0) for side in shared_noise(n, 1, 1.0, rng)]
    return conditional_mutual_information(*rows, clusters=np.repeat(np.arange(n), times))


def zeroed(n: int, rng: Generator) -> Triple:
    """X and y 0 in the same 4 % of the rows, z independent: the entropy of 4 %."""
    x, y, z = rng.normal(size=(3, n, 1))
    off = rng.random(n) < 0.04
    x[off] = y[off] = 0.0
    return x, y, z


def of(
    name: str, truth: float, draw: Callable[[Generator], Triple], benign: bool = False
) -> System:
    """A question about conditional information."""
    return System(name, VERB, float(truth), partial(asked, draw), benign=benign)


def copied(d: int, s: float) -> float:
    """Information of a Gaussian copy with noise of size s."""
    return 0.5 * d * float(np.log1p(s**-2))


SYSTEMS: tuple[System, ...] = (
    *(
        of(
            f"shared noise, {d} columns each, s = {s:g}",
            copied(d, s),
            partial(shared_noise, n, d, s),
            s == 1,
        )
        for n, d, s in (
            (2000, 1, 1.0),
            (2000, 4, 1.0),
            (3000, 10, 1.0),
            (2000, 1, 0.01),
            (2000, 4, 1e-3),
        )
    ),
    *(
        of(f"Markov chain, {d} columns each, s = {s:g}", 0.0, partial(chain, n, d, s), s == 1)
        for n, d, s in ((2000, 1, 1.0), (2000, 6, 1.0), (2000, 1, 0.01), (2000, 4, 1e-3))
    ),
    of(
        "exponentials of shared noise",
        copied(1, 1),
        mapped(np.exp, partial(shared_noise, 2000, 1, 1.0)),
    ),
    of("exponentials of a close chain", 0.0, mapped(np.exp, partial(chain, 2000, 2, 0.01))),
    *(
        of(name, 0.0, partial(common, n, d, function, turn=turn))
        for name, n, d, function, turn in (
            ("shared products given 20 columns", 2000, 20, products, False),
            ("shared products given 20 mixed columns", 2000, 20, products, True),
            ("shared product given 2 columns", 2000, 2, products, False),
            ("shared square given 1 column", 2000, 1, lambda z: z[:, 0] ** 2, False),
            ("shared sine given 1 column", 2000, 1, lambda z: np.sin(3 * z[:, 0]), False),
            (
                "shared parity of 3 signs given 5 columns",
                2000,
                5,
                lambda z: np.sign(z[:, :3].prod(1)),
                False,
            ),
        )
    ),
    *(of(f"y = x z, given {d} columns", OF_GATE, partial(gate, 2000, d)) for d in (1, 4)),
    of("2 sin(4 x) + z_0, given 4 columns", OF_SINE, partial(sine, 2000)),
    System("shared noise, every row 5 times", VERB, copied(1, 1), partial(repeated, 800, 5)),
    of(
        "4 % of the rows 0 in x and y",
        -0.04 * np.log(0.04) - 0.96 * np.log(0.96),
        partial(zeroed, 3000),
    ),
)
