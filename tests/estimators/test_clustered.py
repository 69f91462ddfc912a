import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from estimators import betting_interval, cluster_means, clustered_mean

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
