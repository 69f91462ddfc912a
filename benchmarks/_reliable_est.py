"""Systems of known truth: entropy, probes, discrete estimates, CKA, rank, dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, stats

from benchmarks._reliable_system import System
from estimators import (
    discrete,
    effective_rank,
    entropy,
    intrinsic_dimension,
    linear_cka,
    matrix_entropy,
    spectral_entropy,
    usable_information,
)

Rng = np.random.Generator
Draw = Callable[[Rng], Any]
LN2 = math.log(2.0)
#: Entropy of a standard Gaussian column.
GAUSSIAN = 0.5 * math.log(2.0 * math.pi * math.e)


def _of(verb: str, estimate: Callable[..., Any]) -> Callable[..., System]:
    """Makes systems of a verb from (name, truth, draw), where draw gives the arguments."""

    def make(name: str, truth: float, draw: Draw, *, benign: bool = False) -> System:
        def ask(rng: Rng) -> Any:
            drawn = draw(rng)
            positional, named = (drawn, {}) if isinstance(drawn, tuple) else ((), drawn)
            return estimate(*positional, **named)

        return System(f"{verb}: {name}", verb, truth, ask, benign=benign)

    return make


def _turn(d: int) -> NDArray[np.float64]:
    """A fixed rotation."""
    return np.linalg.qr(np.random.default_rng(d).normal(size=(d, d)))[0]


def _copies(rows: NDArray[np.float64], times: int, rng: Rng) -> NDArray[np.float64]:
    """Every row several times, up to float noise."""
    repeated = np.repeat(rows, times, axis=0)
    return repeated + 1e-6 * rng.normal(size=repeated.shape)


def _shared_scale(rng: Rng, n: int, d: int) -> NDArray[np.float64]:
    """Gaussian directions whose norm is uniform in [0, 1]: dense at the centre."""
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.random((n, 1))


def _entropy() -> tuple[System, ...]:
    of = _of("entropy", entropy)
    two_humps = float(stats.norm.entropy()) + LN2
    # In d dimensions: ln of the sphere's surface, and the mean of (d - 1) ln r for uniform r.
    surface = math.log(2.0 * math.pi**5 / math.gamma(5.0))
    return (
        *(
            of(f"Gaussian, {d} columns, n = {n}", d * GAUSSIAN, partial(_normal, n, d), benign=True)
            for d, n in ((1, 500), (3, 1000), (5, 1000), (20, 2000), (50, 2000))
        ),
        of("uniform, 1 column", 0.0, lambda r: (r.random((2000, 1)),), benign=True),
        of("uniform, 2 columns", 0.0, lambda r: (r.random((2000, 2)),), benign=True),
        of("uniform, 4 columns", 0.0, lambda r: (r.random((2000, 4)),)),
        of("uniform, 20 columns", 0.0, lambda r: (r.random((2000, 20)),)),
        of("turned cube, 20 columns", 0.0, lambda r: (r.random((2000, 20)) @ _turn(20),)),
        of("exponential", 1.0, lambda r: (r.exponential(size=(2000, 1)),), benign=True),
        of("Laplace, 2 columns", 2 + 2 * LN2, lambda r: (r.laplace(size=(2000, 2)),), benign=True),
        of(
            "two humps",
            two_humps,
            lambda r: (r.normal(size=(2000, 1)) + 12.0 * r.integers(0, 2, (2000, 1)),),
            benign=True,
        ),
        of(
            "Student, 3 degrees, 10 columns",
            10.0 * float(stats.t(3).entropy()),
            lambda r: (r.standard_t(3, size=(2000, 10)),),
        ),
        of("norms uniform, 10 columns", surface - 9.0, lambda r: (_shared_scale(r, 2000, 10),)),
        of(
            "every row five times up to noise",
            2 * GAUSSIAN,
            lambda r: (_copies(r.normal(size=(400, 2)), 5, r),),
        ),
    )


def _normal(n: int, d: int, rng: Rng) -> tuple[NDArray[np.float64]]:
    return (rng.normal(size=(n, d)),)


def _logit_information(slope: float) -> float:
    """I(X; Y) for a logistic regression on a Gaussian score."""
    kernel = integrate.quad(
        lambda z: (
            stats.norm.pdf(z) * float(stats.bernoulli(1 / (1 + np.exp(-slope * z))).entropy())
        ),
        -8,
        8,
    )
    return LN2 - float(kernel[0])


def _logit(n: int, d: int, slope: float, rng: Rng) -> dict[str, Any]:
    x = rng.normal(size=(n, d))
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-slope * x[:, 0]))).astype(int)
    return {"x": x, "y": y, "method": "linear"}


def _near_copies(gap: float, rng: Rng) -> dict[str, Any]:
    h = rng.normal(size=(1000, 5))
    drawn = _logit(1000, 5, 2.0, rng)
    return {**drawn, "x": np.c_[h, h + gap * drawn["x"]]}


def _line(n: int, d: int, noise: float, rng: Rng) -> dict[str, Any]:
    x = rng.normal(size=(n, d))
    return {"x": x, "y": x[:, :1] + noise * rng.normal(size=(n, 1)), "method": "linear"}


def _border(n: int, d: int, rng: Rng) -> dict[str, Any]:
    x = rng.normal(size=(n, d))
    return {"x": x, "y": (x[:, 0] > 0).astype(int), "method": "linear"}


def _beyond_known(rng: Rng) -> dict[str, Any]:
    x, t, e = rng.normal(size=(3, 2000, 4))
    return {"x": x, "y": (x + t + e)[:, :1], "given": t, "method": "linear"}


def _probes() -> tuple[System, ...]:
    of = _of("usable information", usable_information)
    two = _logit_information(2.0)
    return (
        of("slope 2, 5 columns, n = 1,000", two, partial(_logit, 1000, 5, 2.0), benign=True),
        of("slope 2, 20 columns, n = 2,000", two, partial(_logit, 2000, 20, 2.0), benign=True),
        of("slope 2, 60 columns, n = 1,000", two, partial(_logit, 1000, 60, 2.0)),
        of("slope 2, 100 columns, n = 1,000", two, partial(_logit, 1000, 100, 2.0)),
        *(
            of(f"slope 2, near copies, gap {gap}", two, partial(_near_copies, gap), benign=sure)
            for gap, sure in ((0.03, True), (0.001, True), (1e-6, False))
        ),
        of("nothing to predict", 0.0, partial(_logit, 1000, 10, 0.0), benign=True),
        of("a line and noise", 0.5 * LN2, partial(_line, 1500, 5, 1.0), benign=True),
        of("a line, 50 columns", 0.5 * LN2, partial(_line, 1500, 50, 1.0), benign=True),
        of("a line, 200 columns", 0.5 * LN2, partial(_line, 1500, 200, 1.0)),
        of("a line without noise", math.inf, partial(_line, 1000, 5, 0.0)),
        of("beyond a known input", 0.5 * LN2, _beyond_known, benign=True),
        of("border, 5 columns, n = 1,000", LN2, partial(_border, 1000, 5)),
        of("border, 400 columns, n = 100", LN2, partial(_border, 100, 400)),
        of("border, 50 columns, n = 600", LN2, partial(_border, 600, 50)),
    )


def _flipped(n: int, rate: float, rng: Rng) -> tuple[Any, Any]:
    x = rng.integers(0, 2, n)
    return x, x ^ (rng.random(n) < rate)


def _choices(n: int, p: NDArray[np.float64], rng: Rng) -> tuple[Any]:
    return (rng.choice(len(p), n, p=p),)


def _free_answers(n: int, rng: Rng) -> NDArray[np.int64]:
    """One symbol in 99 % of the rows, any of a million in the others."""
    return np.where(rng.random(n) < 0.01, 1 + rng.integers(0, 10**6, n), 0)


def _xor(rng: Rng) -> tuple[Any, Any, Any]:
    x, z = rng.integers(0, 2, (2, 500))
    return x, x ^ z, z


def _discrete() -> tuple[System, ...]:
    one = _of("discrete entropy", discrete.entropy)
    two = _of("discrete mutual information", discrete.mutual_information)
    three = _of("discrete conditional information", discrete.conditional_mutual_information)
    rare = np.array([0.96, 0.02, 0.01, 0.01])
    free = float(stats.bernoulli(0.01).entropy()) + 0.01 * math.log(10**6)
    zipf = 1.0 / np.arange(1, 1001)
    zipf /= zipf.sum()
    words = zipf[:50] / zipf[:50].sum()
    return (
        *(
            one(f"fair coin, n = {n}", LN2, partial(_choices, n, np.full(2, 0.5)), benign=n > 99)
            for n in (3, 5, 10, 100, 1000)
        ),
        one(
            "coin of 1 %, n = 100",
            float(stats.bernoulli(0.01).entropy()),
            partial(_choices, 100, np.array([0.99, 0.01])),
        ),
        one(
            "coin of 10 %, n = 10",
            float(stats.bernoulli(0.1).entropy()),
            partial(_choices, 10, np.array([0.9, 0.1])),
        ),
        one("die, n = 300", math.log(6), partial(_choices, 300, np.full(6, 1 / 6)), benign=True),
        one("rare symbols, n = 200", float(stats.entropy(rare)), partial(_choices, 200, rare)),
        *(
            one(f"free answers, n = {n}", free, lambda r, n=n: (_free_answers(n, r),))
            for n in (500, 1000)
        ),
        two("free answers, copied, n = 1000", free, lambda r: (_free_answers(1000, r),) * 2),
        one(
            "words, 50 symbols, n = 3,000",
            float(stats.entropy(words)),
            partial(_choices, 3000, words),
            benign=True,
        ),
        two(
            "words, 50 symbols, copied, n = 10,000",
            float(stats.entropy(words)),
            lambda r: _choices(10000, words, r) * 2,
            benign=True,
        ),
        one(
            "Zipf, 1,000 symbols, n = 2,000",
            float(stats.entropy(zipf)),
            partial(_choices, 2000, zipf),
        ),
        one("100 symbols, n = 150", math.log(100), partial(_choices, 150, np.full(100, 0.01))),
        one(
            "100 symbols, n = 2,000",
            math.log(100),
            partial(_choices, 2000, np.full(100, 0.01)),
            benign=True,
        ),
        *(
            two(f"copied bit, n = {n}", LN2, partial(_flipped, n, 0.0), benign=n > 99)
            for n in (4, 10, 100)
        ),
        *(
            two(
                f"bit flipped at 10 %, n = {n}",
                LN2 - float(stats.bernoulli(0.1).entropy()),
                partial(_flipped, n, 0.1),
                benign=n > 99,
            )
            for n in (8, 500)
        ),
        *(
            two(
                f"independent, {k} x {k}, n = {n}",
                0.0,
                lambda r, k=k, n=n: tuple(r.integers(0, k, (2, n))),
                benign=n >= 50 * k,
            )
            for k, n in ((2, 10), (2, 300), (10, 3000), (30, 1000))
        ),
        three("exclusive or", LN2, _xor, benign=True),
    )


def _pair(n: int, d: int, noise: float, rng: Rng) -> tuple[Any, Any]:
    x = rng.normal(size=(n, d))
    return x, (x + noise * rng.normal(size=(n, d))) @ _turn(d)


def _tokens(rng: Rng) -> dict[str, Any]:
    image = rng.normal(size=(60, 8))
    x = np.repeat(image, 10, axis=0) + 0.5 * rng.normal(size=(600, 8))
    y = x + rng.normal(size=(600, 8))
    return {"x": x, "y": y, "clusters": np.repeat(np.arange(60) * 10, 10)}


def _cka() -> tuple[System, ...]:
    of = _of("CKA", linear_cka)
    return (
        of("turned copy", 1.0, partial(_pair, 200, 8, 0.0), benign=True),
        of("equal noise, 16 columns, n = 500", 0.5, partial(_pair, 500, 16, 1.0), benign=True),
        of(
            "little noise, 200 columns, n = 300",
            1 / 1.01,
            partial(_pair, 300, 200, 0.1),
            benign=True,
        ),
        of("independent", 0.0, lambda r: tuple(r.normal(size=(2, 300, 8))), benign=True),
        of("tokens of images", 1.25 / 2.25, _tokens, benign=True),
        of("equal noise, 200 columns, n = 30", 0.5, partial(_pair, 30, 200, 1.0)),
        of("equal noise, 4 columns, n = 25", 0.5, partial(_pair, 25, 4, 1.0)),
        of("one column of large scale, n = 100", 0.5, _massive),
        *(
            of(
                f"{share:.0%} far rows, gap {gap:g}",
                _of_far_pairs(share, gap),
                partial(_far_pairs, share, gap),
                benign=sure,
            )
            for share, gap, sure in ((0.01, 30.0, False), (0.01, 100.0, False), (0.2, 30.0, True))
        ),
        of("Student, 2.5 degrees, n = 200", 0.5, lambda r: _student(r)),
    )


def _massive(rng: Rng) -> tuple[Any, Any]:
    x = rng.standard_t(3, size=(100, 1)) * 30.0
    y = np.c_[x + rng.standard_t(3, size=(100, 1)) * 30.0, np.zeros((100, 20))]
    rest = rng.normal(size=(2, 100, 20)) * 1e-3
    return np.c_[x, rest[0]], y + np.c_[np.zeros((100, 1)), rest[1]]


def _far_pairs(share: float, gap: float, rng: Rng) -> tuple[Any, Any]:
    """Independent sides but for a share of the rows, which lie far out on both."""
    x, y = rng.normal(size=(2, 500, 8))
    far = rng.random(500) < share
    x[far, 0] += gap
    y[far, 0] += gap
    return x, y


def _of_far_pairs(share: float, gap: float) -> float:
    variance = share * (1.0 - share) * gap**2
    return variance**2 / ((1.0 + variance) ** 2 + 7.0)


def _student(rng: Rng) -> tuple[Any, Any]:
    x, e = rng.standard_t(2.5, size=(2, 200, 10))
    return x, x + e


def _spectrum(scales: NDArray[np.float64], n: int, columns: int, rng: Rng) -> tuple[Any]:
    rows = rng.normal(size=(n, len(scales))) * scales
    return (rows @ _turn(columns)[: len(scales)],)


def _ranks() -> tuple[System, ...]:
    rank, matrix = _of("effective rank", effective_rank), _of("matrix entropy", matrix_entropy)
    power = np.arange(1, 51) ** -0.5
    few = np.array([3.0, 2.0, 1.0])

    def erank(scales: NDArray[np.float64]) -> float:
        return math.exp(spectral_entropy(scales))

    return (
        rank("8 equal directions", 8.0, partial(_spectrum, np.ones(8), 4000, 8), benign=True),
        rank(
            "50 equal directions, n = 2,000",
            50.0,
            partial(_spectrum, np.ones(50), 2000, 50),
            benign=True,
        ),
        rank(
            "power law, 50 columns, n = 3,000",
            erank(power),
            partial(_spectrum, power, 3000, 50),
            benign=True,
        ),
        rank(
            "3 directions of 300, n = 200",
            erank(few),
            partial(_spectrum, few, 200, 300),
            benign=True,
        ),
        rank("200 equal directions, n = 200", 200.0, partial(_spectrum, np.ones(200), 200, 200)),
        rank("200 equal directions, n = 600", 200.0, partial(_spectrum, np.ones(200), 600, 200)),
        rank("100 equal directions, n = 50", 100.0, partial(_spectrum, np.ones(100), 50, 100)),
        matrix(
            "8 equal directions", math.log(8), partial(_spectrum, np.ones(8), 4000, 8), benign=True
        ),
        matrix(
            "3 directions of 300, n = 200",
            spectral_entropy(few**2),
            partial(_spectrum, few, 200, 300),
            benign=True,
        ),
        matrix(
            "power law, 50 columns, n = 3,000",
            spectral_entropy(power**2),
            partial(_spectrum, power, 3000, 50),
            benign=True,
        ),
        matrix(
            "100 equal directions, n = 50", math.log(100), partial(_spectrum, np.ones(100), 50, 100)
        ),
    )


def _sphere(d: int, n: int, rng: Rng) -> tuple[Any]:
    x = rng.normal(size=(n, d + 1))
    return (x / np.linalg.norm(x, axis=1, keepdims=True),)


def _roll(rng: Rng) -> tuple[Any]:
    t, height = 4.0 + 8.0 * rng.random(8000), 20.0 * rng.random(8000)
    return (np.c_[t * np.cos(t), height, t * np.sin(t)],)


def _dimensions() -> tuple[System, ...]:
    of = _of("intrinsic dimension", intrinsic_dimension)
    return (
        of("plane in 50 columns", 2.0, partial(_spectrum, np.ones(2), 8000, 50), benign=True),
        of("4 Gaussian columns", 4.0, partial(_spectrum, np.ones(4), 4000, 4)),
        of("circle", 1.0, partial(_sphere, 1, 2000), benign=True),
        of("sphere of 2 dimensions", 2.0, partial(_sphere, 2, 8000), benign=True),
        of("rolled sheet", 2.0, _roll, benign=True),
        of("cube of 20 columns", 20.0, lambda r: (r.random((1000, 20)),)),
        of("100 Gaussian columns", 100.0, partial(_spectrum, np.ones(100), 1000, 100)),
        of(
            "plane, every row twice up to noise",
            2.0,
            lambda r: (_copies(*_spectrum(np.ones(2), 500, 20, r), 2, r),),
        ),
        of(
            "plane, every row five times up to noise",
            2.0,
            lambda r: (_copies(*_spectrum(np.ones(2), 300, 20, r), 5, r),),
        ),
        of("plane, one row in ten twice up to noise", 2.0, _some_copies),
    )


def _some_copies(rng: Rng) -> tuple[Any]:
    rows = _spectrum(np.ones(2), 1000, 20, rng)[0]
    return (np.r_[rows, rows[:100] + 1e-6 * rng.normal(size=(100, 20))],)


SYSTEMS: tuple[System, ...] = (
    *_entropy(),
    *_probes(),
    *_discrete(),
    *_cka(),
    *_ranks(),
    *_dimensions(),
)
