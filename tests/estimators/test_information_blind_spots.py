"""Dependence that no correlation and no moment shows: still rows, waves, weak scales, lattices."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import conditional_mutual_information, entropy, mutual_information
from estimators.information._dependence import waves_p_value
from estimators.information._near import excess_at_zero, unchanged_reason


def rng(seed=0):
    return np.random.default_rng(seed)


def still(n, d, share, s, *, updated=True):
    """Y is x + e, or independent of x; in a share of the rows it is x + s e."""
    r = rng()
    x, e = r.normal(size=(2, n, d))
    y = x + e if updated else e.copy()
    rows = r.random(n) < share
    y[rows] = x[rows] + s * e[rows]
    return x, y


@pytest.mark.parametrize("updated", [True, False])
@pytest.mark.parametrize(
    ("d", "share", "s"), [(1, 0.05, 1e-3), (2, 0.05, 0.02), (6, 0.05, 0.1), (10, 0.02, 1e-3)]
)
def test_rows_that_hardly_change_are_told(d, share, s, updated):
    found = mutual_information(*still(2000, d, share, s, updated=updated))
    assert not found.reliable
    assert "nearly" in found.reason or "nearer to" in found.reason


@pytest.mark.parametrize("d", [1, 6])
def test_rows_that_hardly_change_are_told_whatever_their_law(d):
    x, y = still(2000, d, 0.05, 1e-3)
    found = mutual_information(np.sinh(2 * x), np.sinh(2 * x) + (y - x))
    assert "of the rows x and y are nearly equal" in found.reason


def test_rows_that_hardly_change_are_told_given_a_third():
    x, y = still(2000, 3, 0.05, 0.01)
    z = rng(1).normal(size=(2000, 2))
    for columns in (slice(1), slice(3)):
        found = conditional_mutual_information(x[:, columns], y[:, columns], z)
        assert not found.reliable


def test_zeros_on_both_sides_are_not_rows_without_change():
    x, y = np.maximum(rng().normal(size=(2, 2000, 1)), 0.0)
    assert unchanged_reason(x, y) == ""
    assert unchanged_reason(x + 1e-9 * rng(1).normal(size=x.shape), y) != ""


@pytest.mark.parametrize("d", [1, 10])
def test_few_digits_are_not_rows_without_change(d):
    """bfloat16 holds 8 bits: some differences are 0."""
    x, y = (
        (side.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(float)
        for side in rng().normal(size=(2, 3000, d))
    )
    assert not any(told in mutual_information(x, y).reason for told in ("nearly", "nearer"))


def test_gaussian_rows_have_no_excess_at_zero():
    alarms = 0
    for seed in range(40):
        x = rng(seed).normal(size=(500, 5))
        q = np.linalg.qr(x - x.mean(axis=0))[0]
        norms = (q**2).sum(axis=1, keepdims=True) / (1 - 1 / 500)
        alarms += excess_at_zero(norms, 5, 499) > 0
        alarms += excess_at_zero(q**2 / (1 - 1 / 500), 1, 499) > 0
        alarms += unchanged_reason(x, rng(-seed % 2**32).normal(size=x.shape)) != ""
    assert not alarms


@pytest.mark.parametrize(("k", "a"), [(3, 2), (4, 1)])
@pytest.mark.parametrize("d", [3, 30])
def test_a_sine_of_a_column_is_told(d, k, a):
    x, y = rng().normal(size=(2, 2000, d))
    y[:, 1] += a * np.sin(k * x[:, 0])
    for one, other in ((x, y), (y, x)):
        found = mutual_information(one, other)
        assert not found.reliable
        assert "not Gaussian" in found.reason


def test_a_sine_is_told_given_others_and_in_an_entropy():
    x, e = rng().normal(size=(2, 2000, 1))
    z = rng(1).normal(size=(2000, 6))
    assert not conditional_mutual_information(x, z[:, :1] + 2 * np.sin(4 * x) + e, z).reliable
    for one, other in ((0, 1), (1, 0)):
        moved = z.copy()
        moved[:, one] += np.sin(4 * z[:, other])
        assert "depends on waves of another" in entropy(moved).reason


@pytest.mark.parametrize(("n", "p", "q"), [(300, 1, 1), (500, 6, 3), (600, 40, 30)])
def test_independent_columns_have_no_common_waves(n, p, q):
    levels = [
        waves_p_value(rng(s).normal(size=(n, p)), rng(s + 999).normal(size=(n, q)))
        for s in range(30)
    ]
    assert min(levels) > 1e-3
    turned = [rng(s).normal(size=(n, p)) @ rng(5).normal(size=(p, p)) for s in range(30)]
    levels = [waves_p_value(x, rng(s + 99).normal(size=(n, q))) for s, x in enumerate(turned)]
    assert min(levels) > 1e-3


def test_a_scale_that_is_weak_in_every_pair_is_told():
    """Ten Student pairs: each lacks some hundredths of a nat."""
    for seed in range(3):
        x, e = rng(seed).normal(size=(2, 1500, 10))
        scale = np.sqrt(8 / rng(seed + 9).chisquare(8, size=(1500, 10)))
        y = 0.5 * x + 0.75**0.5 * e
        assert not mutual_information(x * scale, y * scale).reliable


@pytest.mark.parametrize(("d", "digits"), [(3, 1), (6, 0), (20, 0)])
def test_rounded_rows_have_no_density(d, digits):
    x = rng().normal(size=(1500, d))
    assert entropy(x).reliable
    found = entropy(x.round(digits))
    assert "of the rows have the same value in column" in found.reason
