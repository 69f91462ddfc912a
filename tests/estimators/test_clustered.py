import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from estimators import betting_interval, cluster_means, clustered_mean, clustered_ratio

PAIRS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 6)), min_size=1, max_size=60)


@given(PAIRS)
def test_cluster_means_equal_a_plain_loop(pairs):
    table = {}
    for value, label in pairs:
        table.setdefault(label, []).append(value)
    means, sizes = cluster_means([v for v, _ in pairs], [c for _, c in pairs])
    np.testing.assert_allclose(means, [np.mean(v) for v in table.values()], atol=1e-6)
    assert sizes.tolist() == [len(v) for v in table.values()]


@given(PAIRS)
def test_relabelling_changes_nothing(pairs):
    values = [v for v, _ in pairs]
    plain = cluster_means(values, [c for _, c in pairs])
    named = cluster_means(values, [("image", str(c)) for _, c in pairs])
    assert plain[0].tolist() == named[0].tolist()


def test_every_cluster_weighs_the_same():
    one = clustered_mean([1.0] * 99 + [0.0], ["a"] * 99 + ["b"], bounds=(0, 1), unit="s")
    assert (one.value, one.n, one.unit, one.method) == (0.5, 2, "s", "betting")
    assert one.diagnostics == {"n_values": 100}


def test_bounds_give_the_betting_interval_of_the_means():
    rng = np.random.default_rng(0)
    values, clusters = rng.random(90), np.repeat(np.arange(30), 3)
    one = clustered_mean(values, clusters, bounds=(0, 1), level=0.9)
    assert one.interval == betting_interval(values.reshape(30, 3).mean(axis=1), level=0.9)
    assert one.reliable


def test_without_bounds_it_is_the_one_sample_t_interval():
    rng = np.random.default_rng(1)
    values, clusters = rng.normal(size=100), np.repeat(np.arange(25), 4)
    one = clustered_mean(values, clusters, level=0.9)
    means = values.reshape(25, 4).mean(axis=1)
    expected = stats.t.interval(0.9, 24, means.mean(), stats.sem(means))
    assert one.interval == pytest.approx(expected)
    assert (one.method, one.reliable) == ("t", True)


def test_few_clusters_are_called_unreliable():
    one = clustered_mean([1.0, 2.0, 3.0], ["a", "b", "c"])
    assert not one.reliable
    assert one.reason == "only 3 clusters; a t interval needs at least 20"


def test_t_interval_covers_where_rows_of_an_image_are_alike():
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(40), 10)
    hits = 0
    for _ in range(300):
        values = np.repeat(rng.normal(size=40), 10) + rng.normal(size=400)
        low, high = clustered_mean(values, clusters).interval
        hits += low <= 0.0 <= high
    assert 0.91 <= hits / 300 <= 0.985


@pytest.mark.parametrize(
    ("values", "clusters", "options", "message"),
    [
        ([], [], {}, "values is empty"),
        ([1.0, 2.0], ["a"], {}, "2 values but 1 cluster labels"),
        ([1.0, math.inf], ["a", "b"], {}, r"values\[1\] is inf"),
        ([1.0, 2.0], [["a"], ["b"]], {}, "labels must be hashable"),
        ([1.0, 2.0], ["a", "a"], {}, "one cluster has no spread"),
        ([1.0, 2.0], ["a", "b"], {"bounds": (0, 1)}, r"values\[1\] is 2, outside \[0, 1\]"),
        ([1.0, 2.0], ["a", "b"], {"bounds": (1, 0)}, "finite lower < upper"),
        ([1.0, 2.0], ["a", "b"], {"level": 1.0}, "level must lie strictly"),
    ],
)
def test_bad_input_is_named(values, clusters, options, message):
    with pytest.raises(ValueError, match=message):
        clustered_mean(values, clusters, **options)


COUNTS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 5)), min_size=2, max_size=40
).filter(lambda rows: len({label for _, _, label in rows}) > 1)


@given(COUNTS)
def test_a_ratio_is_that_of_the_sums(rows):
    tops, bottoms, labels = zip(*rows, strict=True)
    one = clustered_ratio(tops, bottoms, labels)
    assert one.value == pytest.approx(sum(tops) / sum(bottoms))
    assert 0 <= one.interval[0] <= one.value <= one.interval[1]
    assert (one.n, one.method) == (len(set(labels)), "ratio-t")


def test_a_ratio_with_equal_denominators_is_a_mean():
    rng = np.random.default_rng(3)
    errors = rng.integers(1, 9, 40).astype(float)
    ratio = clustered_ratio(errors, np.full(40, 10.0), range(40))
    mean = clustered_mean(errors / 10, range(40))
    assert ratio.value == pytest.approx(mean.value)
    assert ratio.interval == pytest.approx(mean.interval)


def test_a_ratio_called_reliable_covers_the_true_one():
    """Recordings of 3 to 19 words; words of one recording are wrong together."""
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(400):
        words, rates = rng.integers(3, 20, 80), rng.beta(0.3, 0.7, 80)
        one = clustered_ratio(rng.binomial(words, rates), words, range(80))
        hits += [one.interval[0] <= 0.3 <= one.interval[1]] if one.reliable else []
    assert len(hits) > 350
    assert 0.92 <= np.mean(hits) <= 0.98


def test_rare_errors_are_called_unreliable():
    """Three wrong words in 80 recordings: the t interval of such sums covers too rarely."""
    few = clustered_ratio([1, 1, 1] + [0] * 77, [8] * 80, range(80))
    assert not few.reliable
    assert "a few rows carry the variance" in few.reason
    none = clustered_ratio([0] * 80, [8] * 80, range(80))
    assert none.interval == (0, 0)
    assert none.reason == "all clusters have the same ratio, so the interval has no width"


@pytest.mark.parametrize(
    ("tops", "bottoms", "clusters", "message"),
    [
        ([1.0], [1.0, 2.0], ["a"], "1 numerators but 2 denominators"),
        ([1.0, 1.0], [1.0, 2.0], ["a"], "2 values but 1 cluster labels"),
        ([1.0, -1.0], [1.0, 2.0], ["a", "b"], "the least are -1 and 1"),
        ([1.0, 1.0], [0.0, 2.0], ["a", "b"], "the least are 1 and 0"),
        ([1.0, 1.0], [1.0, 2.0], ["a", "a"], "one cluster has no spread"),
    ],
)
def test_bad_ratios_are_named(tops, bottoms, clusters, message):
    with pytest.raises(ValueError, match=message):
        clustered_ratio(tops, bottoms, clusters)
