import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from estimators import MEASURES, TAIL_GRID, MeanAccumulator, PairAccumulator, PairRows


def columns(rows):
    return dict(
        zip(
            MEASURES,
            (rows.cosine, rows.angular, rows.norm_ratio, rows.relative_update),
            strict=True,
        )
    )


def plain_ratio(values, clusters, level=0.95):
    """Ratio estimate and linearised t interval, straight from the formula."""
    sums = np.array([values[clusters == c].sum() for c in np.unique(clusters)])
    sizes = np.array([(clusters == c).sum() for c in np.unique(clusters)])
    ratio = sums.sum() / sizes.sum()
    c = len(sums)
    residual = ((sums - ratio * sizes) ** 2).sum()
    half = stats.t.ppf(0.5 + level / 2, c - 1) * math.sqrt(c / (c - 1) * residual) / sizes.sum()
    return ratio, (ratio - half, ratio + half)


def sample(seed, clusters=25, d=6):
    rng = np.random.default_rng(seed)
    ids = np.repeat(rng.permutation(clusters), rng.integers(1, 9, clusters))
    x = rng.normal(size=(ids.size, d))
    mix = rng.random(clusters)[ids][:, None]
    return PairRows.of(x, x + mix * rng.normal(size=x.shape)), ids


def accumulate(rows, ids, parts=1):
    """Several updates, clusters kept whole."""
    out = PairAccumulator()
    for part in range(parts):
        mask = ids % parts == part
        out.update(rows.select(mask), ids[mask])
    return out


def assert_same(one, other):
    assert (one.n_rows, one.n_clusters) == (other.n_rows, other.n_clusters)
    for a, b in zip(every(one), every(other), strict=True):
        assert a.value == pytest.approx(b.value, abs=1e-10)
        assert a.interval == pytest.approx(b.interval, abs=1e-10)
    levels = (0.1, 0.5, 0.9)
    assert one.quantiles(levels) == other.quantiles(levels)


def every(pair):
    return [*(pair.mean(name) for name in MEASURES), *pair.tails()]


@given(st.integers(0, 10_000), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_means_equal_the_plain_formula(seed, clusters):
    rows, ids = sample(seed, clusters)
    pair = accumulate(rows, ids, parts=3)
    for name, values in columns(rows).items():
        ratio, interval = plain_ratio(values, ids)
        one = pair.mean(name)
        assert one.value == pytest.approx(ratio, abs=1e-10)
        top = {"cosine_distance": 2.0, "angular_distance": 1.0}.get(name, math.inf)
        assert one.interval == pytest.approx(np.clip(interval, 0.0, top), abs=1e-10)
        assert one.n == clusters
        assert one.diagnostics == {"n_rows": ids.size}


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_merged_equals_one_pass_in_any_order(seed, parts):
    rows, ids = sample(seed)
    whole = accumulate(rows, ids)
    pieces = [
        accumulate(rows.select(ids % parts == p), ids[ids % parts == p]) for p in range(parts)
    ]
    forward, backward = PairAccumulator(), PairAccumulator()
    for piece in pieces:
        forward = forward.merge(piece)
        backward = piece.merge(backward)
    assert_same(forward, whole)
    assert_same(backward, whole)
    assert_same(accumulate(rows, ids, parts), whole)


def test_merge_changes_neither_side():
    (a, ids), (b, other) = sample(0), sample(1)
    first, second = accumulate(a, ids), accumulate(b, other)
    before = [one.to_json() for one in every(first) + every(second)]
    first.merge(second)
    assert [one.to_json() for one in every(first) + every(second)] == before


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_tails_count_exactly(seed):
    rows, ids = sample(seed)
    pair = accumulate(rows, ids, parts=2)
    for index, threshold in enumerate(TAIL_GRID):
        beyond = (rows.cosine > threshold).astype(float)
        one = pair.tail(index)
        assert one.value == pytest.approx(beyond.mean(), abs=1e-12)
        if 0.0 < beyond.mean() < 1.0:
            _, (low, high) = plain_ratio(beyond, ids)
            assert one.interval == pytest.approx((max(low, 0.0), min(high, 1.0)), abs=1e-10)
    values = [one.value for one in pair.tails()]
    assert values == sorted(values, reverse=True)


def test_a_distance_on_the_threshold_is_not_beyond_it():
    pair = PairAccumulator()
    pair.update(PairRows(np.array([0.1, 0.1]), np.ones(2), np.ones(2)), [0, 1])
    assert pair.tail(TAIL_GRID.index(0.1)).value == 0.0
    assert pair.tail(TAIL_GRID.index(0.03)).value == 1.0


@pytest.mark.parametrize("cosine", [0.0, 2.0])
def test_tails_without_exception_keep_an_honest_width(cosine):
    pair = PairAccumulator()
    full = np.full(120, cosine)
    pair.update(PairRows(full, np.ones(120), np.ones(120)), np.arange(120) // 2)
    one = pair.tail(4)
    width = 1 - 0.05 ** (1 / 60)
    expected = (0.0, width) if cosine == 0.0 else (1.0 - width, 1.0)
    assert one.interval == pytest.approx(expected)
    assert one.method == "no-exception"
    assert one.reliable


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_quantiles_are_within_half_a_bin(seed):
    rows, ids = sample(seed)
    levels = (0.01, 0.25, 0.5, 0.75, 0.99)
    exact = np.quantile(rows.cosine, levels, method="inverted_cdf")
    got = accumulate(rows, ids).quantiles(levels)
    np.testing.assert_allclose(got, exact, atol=1 / 4096)


@pytest.mark.parametrize("scale", [1e-15, 1e-9, 3e-5, 2.0**-7])
def test_quantiles_of_layers_that_hardly_change_a_state(scale):
    rng = np.random.default_rng(0)
    small = np.append(scale * rng.uniform(size=400) ** 3, 1.5)  # one token changes much
    pair = PairAccumulator()
    pair.update(PairRows(small, np.ones(401), np.ones(401)), np.arange(401))
    levels = (0.05, 0.5, 0.9)
    exact = np.quantile(small, levels, method="inverted_cdf")
    np.testing.assert_allclose(pair.quantiles(levels), exact, rtol=0.02, atol=2.0**-60)


@pytest.mark.parametrize("cosine", [0.0, 0.3, 2.0])
def test_quantiles_of_a_constant_are_exact(cosine):
    pair = PairAccumulator()
    pair.update(PairRows(np.full(3, cosine), np.ones(3), np.ones(3)), [0, 1, 2])
    assert pair.quantiles([0.01, 0.99]) == (cosine, cosine)


@pytest.mark.parametrize("value", [1 / 3, 1e6 + 0.1])
def test_constant_values_have_no_spread_however_large(value):
    one, other = MeanAccumulator(), MeanAccumulator()
    one.update(np.full(700, value), np.repeat(np.arange(70), 10))
    other.update(np.full(35, value), np.repeat(np.arange(5), 7))
    merged = one.merge(other).mean()
    assert merged.interval == (merged.value, merged.value) == (value, value)


def test_small_spread_on_a_large_mean_survives():
    rng = np.random.default_rng(0)
    values, ids = 1e6 + 1e-3 * rng.normal(size=600), np.repeat(np.arange(60), 10)
    acc = MeanAccumulator()
    acc.update(values, ids)
    _, (low, high) = plain_ratio(values - 1e6, ids)
    assert np.subtract(*acc.mean().interval[::-1]) == pytest.approx(high - low, rel=1e-5)


def test_interval_covers_where_rows_of_an_image_are_alike():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        ids = np.repeat(np.arange(40), rng.integers(5, 15, 40))
        acc = MeanAccumulator()
        acc.update(rng.normal(size=40)[ids] + rng.normal(size=ids.size), ids)
        low, high = acc.mean(level=0.9).interval
        hits += low <= 0.0 <= high
    assert 0.86 <= hits / 400 <= 0.94


def test_mean_accumulator_equals_the_pair_for_the_same_numbers():
    rows, ids = sample(5)
    acc = MeanAccumulator(bounds=(0.0, 2.0))
    acc.update(rows.cosine, ids)
    assert acc.mean() == accumulate(rows, ids).mean("cosine_distance")
    assert (acc.n_rows, acc.n_clusters) == (ids.size, 25)


def test_bounds_and_units():
    acc = MeanAccumulator(unit="half-turns", bounds=(0.0, 1.0))
    acc.update([0.0, 1.0], [0, 1])
    assert acc.mean().interval == (0.0, 1.0)
    assert acc.mean().unit == "half-turns"
    rows, ids = sample(0)
    assert accumulate(rows, ids).mean("angular_distance").unit == "half-turns"


def test_one_cluster_says_nothing_about_spread():
    acc = MeanAccumulator()
    acc.update([1.0, 2.0], [4, 4])
    assert acc.mean().interval == (-math.inf, math.inf)
    assert acc.mean().reason == "only 1 clusters; a t interval needs at least 20"


def test_memory_does_not_grow_with_the_rows():
    def size(pair):
        state = {**vars(pair), **vars(pair._sums)}
        return sum(v.nbytes for v in state.values() if isinstance(v, np.ndarray))

    rows, ids = sample(0)
    pair = accumulate(rows, ids)
    before = size(pair)
    for seed in range(5):
        more, others = sample(seed + 1)
        pair.update(more, others)
    assert size(pair) == before


def test_an_empty_update_changes_nothing():
    rows, ids = sample(0)
    pair = accumulate(rows, ids)
    pair.update(rows.select(np.zeros(len(rows), dtype=bool)), np.empty(0))
    assert_same(pair, accumulate(rows, ids))
    mean = MeanAccumulator()
    mean.update([], [])
    assert mean.n_rows == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.mean("cosine"), "unknown measure 'cosine'; choose from cosine_distance, "),
        (lambda p: p.mean("norm_ratio", level=2), "level must lie strictly between 0 and 1"),
        (lambda p: p.tail(9), "tail index 9 is outside 0 to 8"),
        (lambda p: p.tail(-1), "tail index -1 is outside 0 to 8"),
        (lambda p: p.quantiles([0.5, 1.0]), "quantile level must lie strictly"),
        (lambda p: PairAccumulator().mean("norm_ratio"), "no rows were accumulated"),
        (lambda p: PairAccumulator().tails(), "no rows were accumulated"),
        (lambda p: PairAccumulator().quantiles([0.5]), "no rows were accumulated"),
        (lambda p: p.update(sample(0)[0], [1, 2]), r"rows but 2 cluster labels"),
        (
            lambda p: p.update(PairRows.of([[1.0]], [[1.0]]), [None]),
            r"clusters\[0\] is None, which names no cluster",
        ),
        (lambda p: MeanAccumulator().mean(), "no rows were accumulated"),
        (lambda p: MeanAccumulator(bounds=(1.0, 0.0)), "bounds need lower < upper"),
        (
            lambda p: MeanAccumulator(bounds=(0.0, 1.0)).update([0.1, 1.2], [0, 1]),
            r"values\[1\] is 1.2, outside \[0, 1\]",
        ),
        (
            lambda p: MeanAccumulator(unit="s").merge(MeanAccumulator()),
            r"cannot merge \(s, \(-inf, inf\)\) with \(1, ",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(accumulate(*sample(0)))
