"""Streamed second moments and CKA: one pass, many, merged, and the plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import CKAAccumulator, CrossMoments, linear_cka, moments_cka


def pair(seed, n=60, p=5, q=7, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    y = x @ rng.normal(size=(p, q)) + rng.normal(size=(n, q))
    return x + shift, y - 2 * shift


def moments(x, y=None, cuts=()):
    out = CrossMoments()
    for rows in np.split(np.arange(len(x)), cuts):
        if rows.size:
            out.update(x[rows], None if y is None else y[rows])
    return out


def loop_hsic(x, y, debiased):
    """Kernel matrices, entry by entry."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    if not debiased:
        centre = np.eye(n) - 1 / n
        return np.trace(k @ centre @ m @ centre) / (n - 1) ** 2
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(m, 0.0)
    trace = sum(k[i, j] * m[j, i] for i in range(n) for j in range(n))
    product = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (trace + product - 2 * (k @ m).sum() / (n - 2)) / (n * (n - 3))


def loop_cka(x, y, debiased=True):
    return loop_hsic(x, y, debiased) / np.sqrt(
        loop_hsic(x, x, debiased) * loop_hsic(y, y, debiased)
    )


@given(
    st.integers(0, 10**6), st.lists(st.integers(0, 60), max_size=4), st.sampled_from([0.0, 50.0])
)
def test_streaming_is_batch_is_loop(seed, cuts, shift):
    x, y = pair(seed, shift=shift)
    whole, parts = moments(x, y), moments(x, y, sorted(cuts))
    centred = (x - x.mean(axis=0)).T @ (y - y.mean(axis=0)) / (len(x) - 1)
    for one in (whole, parts):
        assert np.abs(one.covariance() - centred).max() < 1e-10
        assert np.abs(one.means()[1] - y.mean(axis=0)).max() < 1e-10
        for debiased in (True, False):
            plain = loop_hsic(x - x.mean(axis=0), y - y.mean(axis=0), debiased)
            assert one.hsic(debiased=debiased) == pytest.approx(plain, rel=1e-10, abs=1e-10)


@given(st.integers(0, 10**6), st.integers(1, 59), st.sampled_from([0.0, 50.0]))
def test_merged_halves_are_the_whole(seed, cut, shift):
    x, y = pair(seed, shift=shift)
    whole = moments(x, y)
    halves = moments(x[:cut], y[:cut]), moments(x[cut:], y[cut:])
    before = halves[0].to_arrays()
    for merged in (halves[0].merge(halves[1]), halves[1].merge(halves[0])):
        assert merged.n_rows == 60
        assert np.abs(merged.covariance() - whole.covariance()).max() < 1e-10
        for debiased in (True, False):
            found = merged.hsic(debiased=debiased)
            assert found == pytest.approx(whole.hsic(debiased=debiased), rel=1e-9, abs=1e-10)
    assert all((before[key] == array).all() for key, array in halves[0].to_arrays().items())
    nothing = CrossMoments().merge(whole).merge(CrossMoments())
    assert (nothing.covariance() == whole.covariance()).all()


def test_moments_stored_and_back_go_on():
    x, y = pair(0)
    half = CrossMoments.from_arrays(moments(x[:20], y[:20]).to_arrays())
    half.update(x[20:], y[20:])
    whole = moments(x, y, [20])
    assert (half.covariance() == whole.covariance()).all()
    assert half.hsic() == whole.hsic()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_torch_is_numpy(dtype, limit):
    x, y = pair(1)
    a, b = torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)
    assert linear_cka(a, b).value == pytest.approx(linear_cka(x, y).value, abs=limit)
    assert np.abs(moments(a, b).covariance() - moments(x, y).covariance()).max() < 50 * limit


@given(st.integers(0, 10**6), st.booleans(), st.integers(4, 40))
def test_cka_is_the_plain_formula_at_any_shape(seed, debiased, n):
    x, y = pair(seed, n=n, p=12, q=9)
    found = linear_cka(x, y, debiased=debiased)
    assert found.value == pytest.approx(loop_cka(x, y, True) if debiased else loop_cka(x, y, False))
    assert 0.0 <= found.interval[0] <= np.clip(found.value, 0.0, 1.0) <= found.interval[1] <= 1.0


@given(st.integers(0, 10**6))
def test_cka_knows_no_turn_shift_or_scale(seed):
    x, y = pair(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(7, 7)))[0]
    found = linear_cka(x, 0.3 * y @ turn + 2.0)
    assert found.value == pytest.approx(linear_cka(x, y).value, abs=1e-9)
    assert linear_cka(y, x).value == pytest.approx(found.value, abs=1e-9)
    assert linear_cka(x, x).value == pytest.approx(1.0, abs=1e-12)


def test_debiased_cka_of_strangers_is_zero_and_the_interval_covers():
    rng = np.random.default_rng(0)
    found = [linear_cka(rng.normal(size=(80, 50)), rng.normal(size=(80, 50))) for _ in range(60)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(60)
    biased = linear_cka(rng.normal(size=(80, 50)), rng.normal(size=(80, 50)), debiased=False)
    assert biased.value > 0.3
    covered = sum(one.interval[0] <= 0.0 <= one.interval[1] for one in found)
    assert covered >= 51  # 85 % of 60


def test_streamed_cka_is_the_plain_one():
    x, y = pair(3, n=300)
    clusters = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 5))
    order = np.argsort(clusters, kind="stable")
    x, y, clusters = x[order], y[order], clusters[order]
    whole = linear_cka(x, y, clusters=clusters)
    parts = [CKAAccumulator() for _ in range(3)]
    for number, part in enumerate(parts):
        rows = clusters % 3 == number
        part.update(x[rows], y[rows], clusters[rows])
    stored = CKAAccumulator.from_arrays(parts[1].to_arrays())
    found = parts[0].merge(stored).merge(parts[2]).estimate()
    assert found.value == pytest.approx(whole.value, abs=1e-10)
    assert found.interval == pytest.approx(whole.interval, abs=1e-9)
    assert (found.n, found.diagnostics["n_rows"], found.reliable) == (60, 300, True)


def test_clusters_of_alike_rows_widen_the_interval():
    x, y = pair(4, n=60)
    again = np.repeat(np.arange(60), 5)
    apart = linear_cka(x[again], y[again])
    together = linear_cka(x[again], y[again], clusters=again)
    widths = [one.interval[1] - one.interval[0] for one in (apart, together)]
    assert widths[1] > 1.5 * widths[0]
    assert (apart.n, together.n) == (300, 60)


def test_few_clusters_are_unreliable():
    x, y = pair(5)
    found = linear_cka(x, y, clusters=np.arange(60) % 4)
    assert not found.reliable
    assert "only 4 clusters" in found.reason
    assert linear_cka(x, y, clusters=[0] * 60).interval == (0.0, 1.0)


def filled(width=2):
    out = CKAAccumulator()
    out.update(np.eye(4, width), np.eye(4, width), np.arange(4))
    return out


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: moments(*pair(0)).update(np.ones((3, 5))), r"widths \(5, 5\) cannot join.*\(5, 7"),
        (
            lambda: moments(*pair(0)).merge(moments(np.ones((3, 2)))),
            r"cannot merge widths \(5, 7\) with widths \(2, 2\)",
        ),
        (lambda: CrossMoments().means(), "at least 1 rows are needed, 0 were"),
        (lambda: moments(np.ones((1, 2))).covariance(), "at least 2 rows are needed, 1 were"),
        (lambda: linear_cka(np.eye(3), np.eye(3)), "at least 4 rows are needed, 3 were"),
        (lambda: linear_cka(np.ones((5, 2)), np.eye(5)), "a side has no spread"),
        (lambda: linear_cka(np.ones((5, 2)), np.ones((4, 2))), "x has 5, y has 4"),
        (lambda: linear_cka(np.eye(5), np.eye(5), clusters=[1]), "5 rows but 1 cluster labels"),
        (lambda: linear_cka(np.eye(5), np.eye(5), level=1.0), "level must lie"),
        (lambda: linear_cka([[1.0], [np.nan]], np.eye(2)), r"x\[1, 0\] is nan"),
        (lambda: filled().merge(CKAAccumulator(debiased=False)), "debiased CKA with a biased"),
        (
            lambda: filled().update(np.eye(2), np.eye(2), [0.0, float("nan")]),
            r"clusters\[1\] is nan",
        ),
        (lambda: CKAAccumulator.from_arrays({}), "lacks 'n_clusters'"),
        (lambda: CrossMoments.from_arrays({}), "lacks 'cross'"),
        (lambda: CKAAccumulator().estimate(), "at least 4 rows are needed, 0 were"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_empty_update_changes_nothing():
    one = filled()
    one.update(np.empty((0, 2)), np.empty((0, 2)), np.empty(0, dtype=int))
    assert (one.n_rows, one.n_clusters) == (4, 4)


def test_moments_cka_of_a_flat_side_is_nan():
    flat, free = moments(np.ones((5, 2))), moments(*pair(0, n=5))
    assert np.isnan(moments_cka(flat, flat, moments(pair(0, n=5)[0])))
    assert free.n_rows == 5
