"""Systems of known truth: partial information decompositions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks._pid_systems import SYSTEMS as BINNED
from benchmarks._reliable_system import System
from estimators import PID, pid_from_counts, pid_from_covariance, pid_from_pmf, pid_from_samples
from estimators.decomposition.by_bins import pid_by_bin_count
from estimators.decomposition.gaussian_samples import fit_gaussian_pid
from estimators.decomposition.learned import fit_learned_pid
from estimators.decomposition.result import ATOMS

Array = Any
Gate = Callable[[Array, Array], Array]
BIT = float(np.log(2.0))

#: Gates of two bits, and their BROJA atoms in bits.
GATES: dict[str, tuple[Gate, tuple[float, float, float, float]]] = {
    "xor": (lambda a, b: a ^ b, (0.0, 0.0, 0.0, 1.0)),
    "and": (lambda a, b: a & b, (0.311278124459, 0.0, 0.0, 0.5)),
    "copy": (lambda a, b: a + 0 * b, (0.0, 1.0, 0.0, 0.0)),
    "same": (lambda a, b: a + 0 * b, (1.0, 0.0, 0.0, 0.0)),
}


def atoms(decomposition: PID) -> dict[str, float]:
    """The true atoms of a distribution, in nats."""
    return decomposition.to_unit("nats").atoms


def gate(function: Gate, k: int, noise: float) -> Array:
    """p[x1, x2, y] of uniform sources; y is replaced by a uniform symbol with probability noise."""
    x1, x2 = np.meshgrid(np.arange(k), np.arange(k), indexing="ij")
    y = function(x1, x2)
    symbols = int(y.max()) + 1
    p = np.full((k, k, symbols), noise / symbols) + (1 - noise) * np.eye(symbols)[y]
    return p / p.sum()


def symmetric(k: int, noise: float) -> Array:
    """Channel from k symbols to k symbols."""
    return (1 - noise) * np.eye(k) + noise / k


def shared_column() -> Array:
    """x1 = (a, b), x2 = (a, c), y = (a, b xor c): one bit redundant, one synergistic."""
    p = np.zeros((4, 4, 4))
    for a, b, c in np.ndindex(2, 2, 2):
        p[2 * a + b, 2 * a + c, 2 * a + (b ^ c)] += 1 / 8
    return p


#: Distributions by name.
PMFS: dict[str, Array] = {
    "xor": gate(lambda a, b: a ^ b, 2, 0.0),
    "noisy and": gate(lambda a, b: a & b, 2, 0.3),
    "only x1": gate(lambda a, b: a, 2, 0.4),
    "copy of x1": gate(lambda a, b: a, 2, 0.0),
    "nothing": np.full((3, 3, 3), 1 / 27),
    "all equal": np.eye(2)[:, :, None] * np.eye(2)[:, None, :] / 2,
    "tie": np.einsum("ki,kj->ijk", symmetric(3, 0.3), symmetric(3, 0.3)) / 3,
    "chain": np.einsum("ki,ij->ijk", symmetric(3, 0.3), symmetric(3, 0.3)) / 3,
    "noisy sum": gate(lambda a, b: (a + b) % 3, 3, 0.5),
    "shared column": shared_column(),
    "w": np.array([[[0, 1], [1, 0]], [[1, 0], [0, 0]]]) / 3,
    "categorical": BINNED["categorical"](4) / BINNED["categorical"](4).sum(),
    "binned Gaussian": BINNED["gaussian"](4),
}


def counts(p: Array, n: int, rng: np.random.Generator) -> PID:
    """The estimate from n draws."""
    return pid_from_counts(rng.multinomial(n, p.ravel()).reshape(p.shape))


def samples(p: Array, n: int, rng: np.random.Generator) -> PID:
    """The estimate from n rows."""
    cells = rng.choice(p.size, n, p=p.ravel())
    return pid_from_samples(*np.unravel_index(cells, p.shape))


def bins(n: int, rng: np.random.Generator) -> PID:
    """Y = X1 + X2 + noise in two bins each."""
    x1, x2, noise = rng.normal(size=(3, n))
    return pid_by_bin_count(x1, x2, x1 + x2 + noise, bins=(2,))[2]


def mixed(mixing: Array, noise: tuple[float, float, float], dims: tuple[int, int, int]) -> Array:
    """Covariance of (x1, x2, y) = mixing z + noise of the given variances."""
    return mixing @ mixing.T + np.diag(np.repeat(noise, dims))


def gaussian(cov: Array, dims: tuple[int, int, int], n: int, rng: np.random.Generator) -> PID:
    """The estimate from n Gaussian rows."""
    rows = rng.normal(size=(n, len(cov))) @ np.linalg.cholesky(cov + 1e-13 * np.eye(len(cov))).T
    a, b, _ = dims
    return fit_gaussian_pid(rows[:, :a], rows[:, a : a + b], rows[:, a + b :])


def covariances() -> Iterator[tuple[str, Array, tuple[int, int, int]]]:
    """Covariances with zero atoms, near copies and none."""
    one, eye = (1, 1, 1), np.eye(3)
    yield "only x1", mixed(np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1.0]]), (0, 0, 0), one), one
    yield "nothing", np.eye(6), (2, 2, 2)
    yield "tie", mixed(np.ones((3, 1)), (1, 1, 0.5), one), one
    yield "tie, 3 columns", mixed(np.concatenate([eye] * 3), (1, 1, 0.5), (3, 3, 3)), (3, 3, 3)
    yield "sum", mixed(np.array([[1, 0], [0, 1], [1, 1.0]]), (0, 0, 0.5), one), one
    yield "noise seen by x2", mixed(np.array([[1, 1], [0, 1], [1, 0.0]]), (0.1, 0.1, 0.1), one), one
    chain = mixed(np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1.0]]), (0, 0.01, 0.01), one)
    yield "chain", chain, one
    yield (
        "x2 a near copy of x1",
        mixed(np.array([[1, 0], [1, 0], [1, 1.0]]), (0, 1e-4, 0), one),
        one,
    )
    yield "y a near copy of x1", mixed(np.array([[1, 0], [0, 1], [1, 0.0]]), (0, 0, 1e-3), one), one
    for dims in ((2, 2, 3), (3, 3, 1)):
        half = np.random.default_rng(3).normal(size=(sum(dims), 3 * sum(dims)))
        yield f"random {dims}", half @ half.T / (3 * sum(dims)), dims


def parity(n: int, rng: np.random.Generator) -> PID:
    """Y = x1[:, 0] x2[:, 0] + noise among 4 + 4 columns."""
    x1, x2 = rng.normal(size=(2, n, 4))
    return fit_gaussian_pid(x1, x2, x1[:, :1] * x2[:, :1] + 0.3 * rng.normal(size=(n, 1)))


def uniform_noise(n: int, rng: np.random.Generator) -> PID:
    """Y = x1 + uniform noise of standard deviation 0.01."""
    x1, x2 = rng.normal(size=(2, n, 1))
    return fit_gaussian_pid(x1, x2, x1 + 0.01 * 12**0.5 * (rng.random(size=(n, 1)) - 0.5))


def learned(name: str, n: int, d: int, apart: float, rng: np.random.Generator) -> PID:
    """A gate of the signs of the first columns, whose means are twice `apart` apart."""
    a, b = rng.integers(0, 2, size=(2, n))
    b = a if name == "same" else b
    sides = rng.normal(size=(2, n, d))
    for side, bit in zip(sides, (a, b), strict=True):
        side[:, 0] += apart * (2 * bit - 1)
    return fit_learned_pid(*sides, GATES[name][0](a, b))


def _uniform_truth() -> dict[str, float]:
    """I(x1; y) = h(y) - h(noise); y is Gaussian up to 1e-4 of its variance."""
    information = 0.5 * np.log(2 * np.pi * np.e) - np.log(0.01 * 12**0.5)
    return dict(zip(ATOMS, (0.0, float(information), 0.0, 0.0), strict=True))


def _binned_truth() -> dict[str, float]:
    corr = [[1, 0, 3**-0.5], [0, 1, 3**-0.5], [3**-0.5, 3**-0.5, 1]]
    # Probabilities of octants of a trivariate normal: 1/8 + sum of the arcsines / 4 pi.
    signs = np.array([-1.0, 1.0])
    angle = [np.arcsin(corr[i][j]) / (4 * np.pi) for i, j in ((0, 1), (0, 2), (1, 2))]
    s1, s2, s3 = np.meshgrid(signs, signs, signs, indexing="ij")
    p = 1 / 8 + s1 * s2 * angle[0] + s1 * s3 * angle[1] + s2 * s3 * angle[2]
    return atoms(pid_from_pmf(p))


_PARITY = (0.0, 0.0, 0.0, 1.127)  # numerical integral of I(x1, x2; y)

SYSTEMS: tuple[System, ...] = (
    *(
        System(f"PID of counts: {name}, n = {n}", "PID from counts", atoms(pid_from_pmf(p)),
               partial(counts, p, n), benign=n >= 1000)
        for name, p in PMFS.items()
        for n in (30, 100, 300, 1000)
    ),
    *(
        System(f"PID of samples: {name}, n = 2000", "PID from samples",
               atoms(pid_from_pmf(PMFS[name])), partial(samples, PMFS[name], 2000), benign=True)
        for name in ("xor", "tie", "shared column", "categorical")
    ),
    System("PID by bins: sum, n = 1000", "PID by bins", _binned_truth(), partial(bins, 1000),
           benign=True),
    *(
        System(f"Gaussian PID: {name}, n = {n}", "Gaussian PID",
               atoms(pid_from_covariance(cov, dims)), partial(gaussian, cov, dims, n),
               benign=n >= 1000 and "near copy of x1" not in name)
        for name, cov, dims in covariances()
        for n in (60, 300, 1000)
    ),
    System("Gaussian PID: product of columns", "Gaussian PID",
           dict(zip(ATOMS, _PARITY, strict=True)), partial(parity, 2000)),
    System("Gaussian PID: near copy with uniform noise", "Gaussian PID", _uniform_truth(),
           partial(uniform_noise, 2000)),
    *(
        System(f"learned PID: {name}, {d} columns, n = {n}", "learned PID",
               {atom: BIT * bits for atom, bits in zip(ATOMS, GATES[name][1], strict=True)},
               partial(learned, name, n, d, 4.0), benign=n >= 1000)
        for name in GATES
        for n, d in ((1000, 3), (200, 3))
    ),
)  # fmt: skip
