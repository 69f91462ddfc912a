"""Jackknife folds depend on the content of the rows: not on ids, batches or file order."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import (
    CKAAccumulator,
    SpectrumAccumulator,
    effective_rank,
    intrinsic_dimension,
    linear_cka,
    matrix_entropy,
    usable_information,
)
from estimators._content import canonical_order, cluster_hashes, content_folds, row_hashes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 6))
Y = X @ RNG.normal(size=(6, 6)) + RNG.normal(size=(240, 6))
UNITS = np.repeat(np.arange(80), 3)


def streamed(order, size, ids):
    """CKA and rank of whole clusters in an order, `size` clusters a call, merged in two parts."""
    parts = [(CKAAccumulator(), SpectrumAccumulator()) for _ in range(2)]
    for start in range(0, 80, size):
        units = order[start : start + size]
        rows = np.concatenate([np.flatnonzero(UNITS == unit) for unit in units])
        cka, spectrum = parts[start >= 40]
        cka.update(X[rows], Y[rows], ids(UNITS[rows]))
        spectrum.update(X[rows], ids(UNITS[rows]))
    return parts[1][0].merge(parts[0][0]).estimate(), parts[0][1].merge(
        parts[1][1]
    ).effective_rank()


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize(
    "ids",
    [
        lambda c: c,
        lambda c: 10 * c,
        lambda c: 0 * c + c - c.min(),
        lambda c: [f"{i}.png" for i in c],
    ],
)
def test_a_stream_gives_the_same_interval_whatever_its_ids_and_batches(size, ids):
    plain = streamed(np.arange(80), 80, lambda c: c)
    other = streamed(np.random.default_rng(1).permutation(80), size, ids)
    for a, b in zip(plain, other, strict=True):
        assert np.isfinite(b.interval).all()
        assert (b.value, *b.interval) == pytest.approx((a.value, *a.interval), rel=1e-8)
        assert (b.n, b.reliable) == (80, a.reliable)


def test_one_image_a_call_is_not_one_fold():
    ones = CKAAccumulator()
    for row in range(240):
        ones.update(X[row : row + 1], Y[row : row + 1], clusters=[0])
    estimate = ones.estimate()
    assert np.isfinite(estimate.interval).all()
    assert estimate.n == 240


BATCH = {
    "cka": lambda order: linear_cka(X[order], Y[order], clusters=10 * UNITS[order]),
    "rank": lambda order: effective_rank(X[order], clusters=10 * UNITS[order]),
    "matrix entropy": lambda order: matrix_entropy(X[order], clusters=10 * UNITS[order]),
    "dimension": lambda order: intrinsic_dimension(X[order]),
    "probe": lambda order: usable_information(
        X[order], Y[order, 0] > 0, method="linear", clusters=10 * UNITS[order]
    ),
}


@pytest.mark.parametrize("verb", BATCH)
def test_the_order_of_the_file_changes_no_interval(verb):
    plain = BATCH[verb](np.arange(240))
    by_value = BATCH[verb](np.argsort(X[:, 0]))
    assert (by_value.value, *by_value.interval) == pytest.approx(
        (plain.value, *plain.interval), rel=1e-6, abs=1e-9
    )


def test_equal_rows_are_dealt_to_different_folds():
    # Signs in 3 columns have 8 contents: by content alone whole kinds of rows would be left out.
    signs = np.where(np.random.default_rng(0).normal(size=(2000, 3)) > 0, 1.0, -1.0)
    estimate = effective_rank(signs)
    assert estimate.reliable
    assert estimate.interval[0] > 2.9


@given(st.integers(1, 60), st.integers(2, 10), st.integers(0, 99))
def test_copies_of_a_row_are_dealt_evenly(copies, count, value):
    folds = content_folds(np.arange(copies), count, np.full((copies, 1), float(value)))
    dealt = np.bincount(folds, minlength=count)
    assert dealt.max() - dealt.min() <= 1


@given(st.integers(1, 40), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_hashes_follow_the_rows(n, d, random):
    rows = np.random.default_rng(n).normal(size=(n, d)).round(1)
    order = np.array(random.sample(range(n), n))
    assert (row_hashes(rows[order]) == row_hashes(rows)[order]).all()
    assert len(set(row_hashes(rows))) == len(np.unique(rows, axis=0))
    codes = np.arange(n) // 2
    assert (
        cluster_hashes(codes, rows) == cluster_hashes(codes, np.abs(rows) * np.sign(rows))
    ).all()
    first, second = rows[canonical_order(np.arange(n), rows)], rows[order]
    assert (first == second[canonical_order(np.arange(n), second)]).all()


def test_hashes_of_signs_and_of_small_integers_do_not_collide():
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 12)).reshape(12, -1).T
    assert len(set(row_hashes(signs))) == 4096
    whole = np.array(np.meshgrid(*[np.arange(8.0)] * 4)).reshape(4, -1).T
    assert len(set(row_hashes(whole))) == 4096
    folds = np.bincount(row_hashes(whole) % np.uint64(10))
    assert folds.min() > 330
    assert folds.max() < 490


@pytest.mark.parametrize("make", [lambda: effective_rank(WIDE), lambda: streamed_rank(WIDE)])
def test_wide_rows_cost_no_more_than_their_number(make):
    start = time.process_time()
    estimate = make()
    assert time.process_time() - start < 2.0  # 11 spectra of 1,024 columns take 4 s
    dense = np.linalg.svd(WIDE - WIDE.mean(axis=0), compute_uv=False)
    p = dense[:-1] / dense[:-1].sum()
    assert estimate.value == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert estimate.d == 1024
    assert not estimate.reliable  # 200 rows cannot show 1,024 directions


WIDE = np.random.default_rng(0).normal(size=(200, 1024))


def streamed_rank(rows):
    spectrum = SpectrumAccumulator()
    spectrum.update(rows, np.arange(len(rows)))
    return spectrum.effective_rank()
