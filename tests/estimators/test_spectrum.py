"""Effective rank, matrix entropy, intrinsic dimension: closed forms, invariances, streaming."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import (
    SpectrumAccumulator,
    effective_rank,
    intrinsic_dimension,
    matrix_entropy,
    spectral_entropy,
)
from estimators._content import canonical_order


def with_spectrum(variances, n=400, seed=0):
    """Rows whose sample covariance has exactly these eigenvalues, turned at random."""
    rng = np.random.default_rng(seed)
    d = len(variances)
    white = rng.normal(size=(n, d))
    white -= white.mean(axis=0)
    white = np.linalg.qr(white)[0] * math.sqrt(n - 1)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return white * np.sqrt(variances) @ turn + 3.0


SPECTRA = st.lists(st.floats(0.01, 10.0), min_size=2, max_size=6)


@given(SPECTRA, st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0, 3.0]))
def test_entropy_and_rank_are_the_formulas(variances, seed, alpha):
    x = with_spectrum(variances, n=60, seed=seed)
    p = np.array(variances) / sum(variances)
    plain = -sum(q * math.log(q) for q in p)
    if alpha != 1.0:
        plain = math.log(sum(q**alpha for q in p)) / (1.0 - alpha)
    assert matrix_entropy(x, alpha=alpha).value == pytest.approx(plain, abs=1e-9)
    s = np.sqrt(variances) / np.sqrt(variances).sum()
    assert effective_rank(x).value == pytest.approx(math.exp(-sum(s * np.log(s))), rel=1e-9)


@given(st.lists(st.floats(0.0, 10.0, allow_subnormal=False), min_size=1, max_size=8).filter(any))
def test_entropy_falls_with_its_order_and_knows_its_ends(eigenvalues):
    orders = [spectral_entropy(eigenvalues, alpha=alpha) for alpha in (0.5, 1.0, 2.0, 5.0)]
    assert all(a >= b - 1e-9 for a, b in pairwise(orders))
    assert -1e-12 <= orders[-1]
    assert orders[0] <= math.log(len(eigenvalues)) + 1e-9
    again = spectral_entropy([*np.array(eigenvalues) * 7.0, 0.0])
    assert again == pytest.approx(orders[1], abs=1e-9)


def test_rows_on_a_line_have_rank_one_in_spite_of_rounding():
    line = np.outer(np.random.default_rng(0).normal(size=200), np.arange(1.0, 65.0))
    assert effective_rank(line).value == pytest.approx(1.0, abs=1e-9)
    assert matrix_entropy(line).value == pytest.approx(0.0, abs=1e-9)


def test_gram_and_covariance_have_one_entropy():
    x = np.random.default_rng(0).normal(size=(30, 50))
    centred = x - x.mean(axis=0)
    gram = np.linalg.eigvalsh(centred @ centred.T)
    assert matrix_entropy(x).value == pytest.approx(spectral_entropy(gram), abs=1e-9)


def test_streamed_merged_and_stored_is_the_batch():
    x = with_spectrum([5.0, 2.0, 1.0, 0.2])
    clusters = np.arange(400) // 4
    whole = effective_rank(x, clusters=clusters), matrix_entropy(x, alpha=2.0, clusters=clusters)
    parts = []
    for start, stop in ((0, 40), (40, 240), (240, 400)):
        part = SpectrumAccumulator()
        part.update(x[start:stop], clusters[start:stop])
        parts.append(SpectrumAccumulator.from_arrays(part.to_arrays()))
    joined = parts[2].merge(parts[0]).merge(parts[1])
    assert (joined.n_rows, joined.n_clusters) == (400, 100)
    for one, other in zip(
        whole, (joined.effective_rank(), joined.matrix_entropy(alpha=2.0)), strict=True
    ):
        assert other.value == pytest.approx(one.value, abs=1e-10)
        assert other.interval == pytest.approx(one.interval, abs=1e-9)
        assert (other.n, other.unit, other.reliable) == (100, one.unit, one.reliable)


def test_intervals_cover_where_rows_abound_and_say_so_where_they_do_not():
    rng = np.random.default_rng(0)
    truth = spectral_entropy([4.0, 2.0, 1.0])
    found = [matrix_entropy(rng.normal(size=(400, 3)) * (2.0, 2**0.5, 1.0)) for _ in range(100)]
    assert sum(one.interval[0] <= truth <= one.interval[1] for one in found) >= 86
    half = np.mean([one.interval[1] - one.interval[0] for one in found]) / 2
    assert 1.7 < half / np.std([one.value for one in found]) < 2.9  # t on 9 degrees: 2.26
    few = effective_rank(rng.normal(size=(60, 100)))
    assert not few.reliable
    assert "half width" in few.reason
    assert "60 rows cannot show a value over 59" in few.reason
    assert effective_rank(rng.normal(size=(20_000, 3))).value == pytest.approx(3.0, abs=1e-2)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_torch_is_numpy(dtype, limit):
    x = with_spectrum([5.0, 2.0, 1.0])
    tensor = torch.tensor(x, dtype=dtype)
    for measure in (effective_rank, matrix_entropy, intrinsic_dimension):
        wanted = measure(x).value
        slack = 1e3 * limit if measure is intrinsic_dimension else 10 * limit
        assert measure(tensor).value == pytest.approx(wanted, abs=slack)


# --- TwoNN ----------------------------------------------------------------------------------


def curved(d, n, seed):
    """Gaussian rows of dimension d, bent into 12 columns."""
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=(n, d))
    mixed = flat @ rng.normal(size=(d, 6))
    return np.hstack((np.sin(0.2 * mixed), mixed))


def plain_two_nn(x):
    """Sorted distances of every pair, no block, nothing discarded."""
    distances = np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)
    logs = np.log(distances[:, 2] / distances[:, 1])
    return (len(x) - 1) / logs.sum()


def test_two_nn_is_the_plain_formula_across_blocks():
    x = curved(3, 600, 0)
    found = intrinsic_dimension(x, discard=0.0)
    assert found.value == pytest.approx(plain_two_nn(x), rel=1e-9)
    assert found.interval[0] < found.value < found.interval[1]


def test_the_interval_holds_the_extrapolated_value_with_its_error():
    x = curved(3, 600, 0)
    found = intrinsic_dimension(x)
    x = x[canonical_order(np.arange(600), x)]
    order = np.random.default_rng(0).permutation(600)
    half = np.mean([intrinsic_dimension(x[order[part::2]]).value for part in (0, 1)])
    factor = 1 / (2 ** (1 / found.value) - 1)
    extrapolated = found.value + factor * (found.value - half)
    assert found.diagnostics["extrapolated"] == pytest.approx(extrapolated, rel=1e-9)
    distances = np.linalg.norm(x[:, None] - x[None], axis=2) + np.diag(np.full(600, np.inf))
    nearest = distances.argmin(axis=1)
    mutual = np.mean(nearest[nearest] == np.arange(600))
    reach = 1.959964 * factor * found.value / math.sqrt(540 / (1 + mutual))
    assert found.interval[0] == pytest.approx(max(0.0, extrapolated - reach), rel=1e-6)
    assert found.interval[1] == pytest.approx(extrapolated + reach, rel=1e-6)


@pytest.mark.parametrize(("d", "n"), [(1, 300), (2, 500), (5, 800)])
def test_dimension_of_surfaces_is_covered(d, n):
    found = [intrinsic_dimension(curved(d, n, seed)) for seed in range(30)]
    assert sum(one.interval[0] <= d <= one.interval[1] for one in found) >= 26
    assert np.mean([one.value for one in found]) == pytest.approx(d, rel=0.1)


def test_dimension_knows_no_turn_shift_or_scale():
    x = curved(2, 200, 1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    assert intrinsic_dimension(5.0 * x @ turn - 100.0).value == pytest.approx(
        intrinsic_dimension(x).value, rel=1e-6
    )


def test_a_dimension_beyond_the_rows_is_not_believed():
    found = intrinsic_dimension(np.random.default_rng(0).normal(size=(200, 60)))
    assert not found.reliable
    assert "200 rows cannot distinguish dimensions over 11" in found.reason
    sure = intrinsic_dimension(curved(1, 2000, 0))
    assert sure.reliable, sure.reason


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: matrix_entropy(np.eye(5), alpha=0.0), "alpha must be positive, got 0"),
        (lambda: matrix_entropy(np.ones((5, 2))), "all its rows are equal"),
        (lambda: effective_rank(np.ones((5, 2))), "all its rows are equal"),
        (lambda: effective_rank(np.eye(3)), "at least 4 rows are needed, 3 were"),
        (lambda: effective_rank(np.eye(5), clusters=[1]), "5 rows but 1 cluster labels"),
        (lambda: effective_rank(np.eye(5), level=0.0), "level must lie"),
        (lambda: effective_rank([[1.0], [np.inf]]), r"x\[1, 0\] is inf"),
        (lambda: SpectrumAccumulator.from_arrays({}), "lacks 'n_clusters'"),
        (lambda: intrinsic_dimension(np.eye(19)), "at least 20 rows are needed, got 19"),
        (lambda: intrinsic_dimension(np.eye(30), discard=1.0), r"discard must lie in \[0, 1\)"),
        (lambda: intrinsic_dimension(np.eye(30)), "x is a lattice"),
        (
            lambda: intrinsic_dimension(np.vstack((np.eye(30), np.eye(30)))),
            r"row 0 of x equals another row \(60 such rows\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_empty_update_changes_nothing():
    one = SpectrumAccumulator()
    one.update(np.empty((0, 2)), [])
    assert (one.n_rows, one.n_clusters) == (0, 0)


def test_intervals_cover_at_the_largest_rank():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        one_hot = effective_rank(np.eye(10)[rng.integers(0, 10, 2000)])
        signs = matrix_entropy(rng.choice([-1.0, 1.0], size=(2000, 8)))
        assert one_hot.interval[1] >= 9.0 - 1e-9
        assert signs.interval[1] >= np.log(8.0) - 1e-9
        assert one_hot.reliable
        assert signs.reliable
