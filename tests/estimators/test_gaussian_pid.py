"""Gaussian PID: closed forms, blocks, invariances, gaps that hold, estimates from rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import pid_from_covariance
from estimators.decomposition.gaussian_samples import fit_gaussian_pid
from estimators.decomposition.gaussian_union import (
    _contraction,
    _start,
    _value,
    channel,
    union_information,
)

seeds = st.integers(0, 10_000)
sizes = st.integers(1, 4)


def random_cov(d: int, seed: int) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(d, 2 * d + 1))
    return a @ a.T / (2 * d + 1)


def log_det_information(cov: np.ndarray, first: list[int], second: list[int]) -> float:
    def half(rows: list[int]) -> float:
        return 0.5 * float(np.linalg.slogdet(cov[np.ix_(rows, rows)]).logabsdet)

    return half(first) + half(second) - half(first + second)


@given(sizes, sizes, sizes, seeds)
def test_sum_rules_and_signs(a: int, b: int, c: int, seed: int) -> None:
    cov = random_cov(a + b + c, seed)
    found = pid_from_covariance(cov, (a, b, c))
    one, two, y = (
        list(range(a)),
        list(range(a, a + b)),
        list(range(a + b, a + b + c)),
    )
    assert found.information_1 == pytest.approx(log_det_information(cov, one, y), abs=1e-9)
    assert found.information_2 == pytest.approx(log_det_information(cov, two, y), abs=1e-9)
    assert found.total == pytest.approx(log_det_information(cov, one + two, y), abs=1e-9)
    assert min(found.atoms.values()) >= -1e-9
    assert found.gap is not None
    assert found.gap < 1e-3


@given(sizes, sizes, seeds)
def test_scalar_target_is_mmi(a: int, b: int, seed: int) -> None:
    found = pid_from_covariance(random_cov(a + b + 1, seed), (a, b, 1))
    assert found.redundant == pytest.approx(min(found.information_1, found.information_2), abs=1e-7)


@given(sizes, sizes, sizes, seeds)
def test_exchanging_the_sources_exchanges_the_uniques(a: int, b: int, c: int, seed: int) -> None:
    cov = random_cov(a + b + c, seed)
    turned = [*range(a, a + b), *range(a), *range(a + b, a + b + c)]
    one = pid_from_covariance(cov, (a, b, c))
    two = pid_from_covariance(cov[np.ix_(turned, turned)], (b, a, c))
    assert one.unique_1 == pytest.approx(two.unique_2, abs=1e-6)
    assert one.redundant == pytest.approx(two.redundant, abs=1e-6)


@given(sizes, sizes, sizes, seeds)
def test_linear_maps_of_each_variable_change_nothing(a: int, b: int, c: int, seed: int) -> None:
    cov = random_cov(a + b + c, seed)
    rng = np.random.default_rng(seed + 1)
    turn = np.zeros_like(cov)
    start = 0
    for d in (a, b, c):
        turn[start : start + d, start : start + d] = rng.normal(size=(d, d)) + 3 * np.eye(d)
        start += d
    one, two = (
        pid_from_covariance(cov, (a, b, c)),
        pid_from_covariance(turn @ cov @ turn.T, (a, b, c)),
    )
    assert list(one.atoms.values()) == pytest.approx(list(two.atoms.values()), abs=1e-6)


@given(sizes, sizes, seeds)
def test_a_noisy_copy_has_nothing_unique(a: int, c: int, seed: int) -> None:
    """X1 = A X2 + noise: all that X1 knows X2 knows."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(a, 3))
    cov2 = random_cov(3 + c, seed)
    top = np.concatenate([mix @ cov2[:3, :3] @ mix.T + np.eye(a), mix @ cov2[:3]], axis=1)
    bottom = np.concatenate([cov2[:, :3] @ mix.T, cov2], axis=1)
    found = pid_from_covariance(np.concatenate([top, bottom]), (a, 3, c))
    assert found.unique_1 == pytest.approx(0.0, abs=1e-5)


def joined(blocks: list[tuple[np.ndarray, tuple[int, int, int]]]) -> tuple[np.ndarray, tuple]:
    """Independent blocks as one covariance of (X1, X2, Y)."""
    order: list[int] = []
    whole = np.zeros((sum(len(c) for c, _ in blocks),) * 2)
    start, parts = 0, [[], [], []]  # type: ignore[var-annotated]
    for cov, dims in blocks:
        whole[start : start + len(cov), start : start + len(cov)] = cov
        at = start
        for part, d in zip(parts, dims, strict=True):
            part += range(at, at + d)
            at += d
        start += len(cov)
    order = [*parts[0], *parts[1], *parts[2]]
    return whole[np.ix_(order, order)], tuple(len(part) for part in parts)


@settings(max_examples=15)
@given(seeds)
def test_atoms_add_over_independent_blocks(seed: int) -> None:
    dims = [(2, 2, 2), (1, 3, 2), (2, 1, 1), (3, 3, 3)]
    blocks = [(random_cov(sum(d), seed + i), d) for i, d in enumerate(dims)]
    whole = pid_from_covariance(*joined(blocks))
    apart = [pid_from_covariance(cov, d) for cov, d in blocks]
    for name, value in whole.atoms.items():
        assert value == pytest.approx(sum(one.atoms[name] for one in apart), abs=1e-6)


@pytest.mark.slow
def test_atoms_add_in_a_hundred_dimensions() -> None:
    blocks = [(random_cov(6, seed), (2, 2, 2)) for seed in range(50)]
    whole = pid_from_covariance(*joined(blocks))
    apart = [pid_from_covariance(cov, d) for cov, d in blocks]
    for name, value in whole.atoms.items():
        assert value == pytest.approx(sum(one.atoms[name] for one in apart), abs=1e-6)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), seeds)
def test_the_proved_bound_is_below_random_points(a: int, b: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    h_x, h_y = rng.normal(size=(a, c)), rng.normal(size=(b, c))
    found = union_information(h_x, h_y)
    for _ in range(20):
        k = _contraction(rng.normal(size=(a, b)) * rng.choice([0.1, 1.0, 3.0]))[0]
        if np.linalg.norm(k, 2) < 0.9999:
            assert _value(h_x, h_y, k)[0] >= found.lower - 1e-9
            assert _value(h_x, h_y, k)[0] >= found.value - 1e-6


def test_gradients_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    h_x, h_y, m = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 5)) * 0.4

    def at(point: np.ndarray) -> float:
        return _value(h_x, h_y, _contraction(point)[0])[0]

    k, pull = _contraction(m)
    slope = pull(_value(h_x, h_y, k)[1])
    for i, j in np.ndindex(m.shape):
        step = np.zeros_like(m)
        step[i, j] = 1e-6
        assert slope[i, j] == pytest.approx((at(m + step) - at(m - step)) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("m", [1e-6, 5e-5, 9.9e-5, 1.1e-4, 3e-3, 9.9e-3, 1.1e-2, 0.3, 1.5])
def test_a_number_is_contracted_to_its_sine(m: float) -> None:
    """K = sin(M) and dK/dM = cos(M), across the switches to series."""
    k, pull = _contraction(np.array([[m]]))
    assert k[0, 0] == pytest.approx(np.sin(m), rel=1e-13)
    assert pull(np.ones((1, 1)))[0, 0] == pytest.approx(np.cos(m), rel=1e-12)


def test_shared_directions_are_solved_by_the_start() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.2, 2.0, size=(2, 30))
    turn = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    h_x, h_y = a[:, None] * turn, b[:, None] * turn
    found = union_information(h_x, h_y)
    assert found.iterations == 1
    assert found.value == pytest.approx(0.5 * np.log1p(np.maximum(a, b) ** 2).sum(), abs=1e-10)
    assert _start(h_x, h_y) == pytest.approx(np.diag(np.minimum(a / b, b / a)), abs=1e-6)


def test_a_source_that_knows_nothing_has_no_channel() -> None:
    cov = np.eye(4)
    cov[0, 3] = cov[3, 0] = 0.5
    assert len(channel(cov, slice(1, 3), slice(3, 4))) == 0
    found = pid_from_covariance(cov, (1, 2, 1))
    assert found.unique_1 == pytest.approx(-0.5 * np.log(0.75))
    assert (found.redundant, found.synergistic) == pytest.approx((0.0, 0.0), abs=1e-12)


TRUTH = random_cov(7, 3)


def rows(n: int, seed: int) -> tuple[np.ndarray, ...]:
    z = np.random.default_rng(seed).normal(size=(n, 7)) @ np.linalg.cholesky(TRUTH).T
    return z[:, :2], z[:, 2:4], z[:, 4:]


@pytest.mark.slow
def test_estimates_are_unbiased_and_intervals_cover() -> None:
    truth = pid_from_covariance(TRUTH, (2, 2, 3)).atoms
    found = [fit_gaussian_pid(*rows(300, seed), level=0.9, seed=seed) for seed in range(80)]
    for name, value in truth.items():
        errors = np.array([one.atoms[name] - value for one in found])
        covered = np.mean(
            [one.intervals[name][0] <= value <= one.intervals[name][1] for one in found]
        )
        assert abs(errors.mean()) <= 0.02
        assert covered >= 0.75


def test_rows_give_the_covariances_pid() -> None:
    truth = pid_from_covariance(TRUTH, (2, 2, 3), unit="bits")
    found = fit_gaussian_pid(*rows(20_000, 0), unit="bits")
    for name, value in truth.atoms.items():
        low, high = found.intervals[name]
        assert low - 0.01 <= value <= high + 0.01
    assert found.reliable
    assert found.unit == "bits"


def test_rows_of_one_unit_count_once() -> None:
    apart = fit_gaussian_pid(*rows(300, 1))
    doubled = fit_gaussian_pid(*(np.repeat(r, 3, axis=0) for r in rows(300, 1)),
                           clusters=np.repeat(np.arange(300), 3))  # fmt: skip
    assert doubled.n == 300
    assert doubled.total == pytest.approx(apart.total, abs=0.02)


def test_heavy_tails_are_not_reliable() -> None:
    x1, x2, y = rows(20_000, 0)
    scale = np.exp(np.random.default_rng(0).normal(size=(20_000, 1)))
    found = fit_gaussian_pid(x1 * scale, x2 * scale, y * scale)
    assert not found.reliable
    assert "not Gaussian" in found.reason


@pytest.mark.parametrize(
    ("cov", "dims", "message"),
    [
        (np.eye(3), (1, 1, 2), r"need a covariance of shape \(4, 4\), got \(3, 3\)"),
        (np.eye(3), (1, 0, 2), r"the three dimensions of X1, X2 and Y, got \(1, 0, 2\)"),
        (np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1.0]]), (1, 1, 1), "not positive definite"),
        (np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1.0]]), (1, 1, 1), "not symmetric"),
        (np.diag([1.0, np.nan, 1.0]), (1, 1, 1), r"cov\[1, 1\] is nan"),
    ],
)
def test_bad_covariances(cov: np.ndarray, dims: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pid_from_covariance(cov, dims)


def test_bad_rows() -> None:
    x1, x2, y = rows(10, 0)
    with pytest.raises(ValueError, match="resamples must be at least 10, got 3"):
        fit_gaussian_pid(x1, x2, y, resamples=3)
    with pytest.raises(ValueError, match="x2 has 9"):
        fit_gaussian_pid(x1, x2[:9], y)
    with pytest.raises(ValueError, match="are too few for 4 \\+ 3 columns"):
        fit_gaussian_pid(x1[:7], x2[:7], y[:7])
    x1, x2, y = rows(200, 0)
    with pytest.raises(ValueError, match="the information is infinite"):
        fit_gaussian_pid(x1, x2, x1 + x2)
