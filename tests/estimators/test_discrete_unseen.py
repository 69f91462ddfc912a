"""Discrete measures of samples that miss symbols."""

import numpy as np
import pytest

from estimators.discrete import entropy, mutual_information
from estimators.discrete.corrections import CORRECTIONS


def _drawn(table: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, ...]:
    return np.unravel_index(
        np.random.default_rng(seed).choice(table.size, n, p=table.ravel()), table.shape
    )


@pytest.mark.parametrize("method", sorted(CORRECTIONS))
@pytest.mark.parametrize(("symbols", "n"), [(100, 300), (20, 60)])
def test_symbols_that_were_missed_do_not_cap_the_interval(method, symbols, n):
    misses = 0
    for seed in range(10):
        e = entropy(np.random.default_rng(seed).integers(0, symbols, n), method=method)
        misses += not e.interval[0] <= np.log(symbols) <= e.interval[1]
        assert e.interval[0] <= e.value <= e.interval[1]
    assert misses <= 2


def test_a_copied_symbol_has_its_whole_information():
    misses = 0
    for seed in range(10):
        x = np.random.default_rng(seed).integers(0, 50, 200)
        low, high = mutual_information(x, x).interval
        misses += not low <= np.log(50) <= high
    assert misses <= 1


def test_a_long_tail_is_unreliable_or_covered():
    tail = np.r_[0.95, np.full(10**5, 0.05 / 10**5)]
    truth = -(tail * np.log(tail)).sum()
    for seed in range(10):
        e = entropy(_drawn(tail, 1000, seed)[0])
        assert e.interval[1] > truth or not e.reliable


@pytest.mark.parametrize(("n", "drawn"), [(300, (1, 3, 6)), (1000, (5, 10, 20))])
def test_rare_symbols_without_repeats_are_doubted_or_covered(n, drawn):
    """Nothing in the sample bounds the number of free answers of which each occurs once."""
    tail = np.r_[0.99, np.full(10**6, 0.01 / 10**6)]
    truth = -(tail * np.log(tail)).sum()
    rows = np.arange(n)
    for rare in drawn:
        a = np.where(rows < rare, rows + 1, 0)
        for e in (entropy(a), mutual_information(a, a)):
            assert e.interval[1] > truth - 0.02 or not e.reliable
    assert entropy(np.where(rows < 5, 1 + rows // 5, 0)).reliable  # one rare symbol, five times
    assert entropy(np.where(rows < 1, 1, 0), alphabet=2).reliable


def test_missed_pairs_lower_the_information():
    channel = (0.9 * np.eye(20) + 0.1 / 20) / 20
    truth = 2 * np.log(20) + (channel * np.log(channel)).sum()
    misses = 0
    for seed in range(20):
        e = mutual_information(*_drawn(channel, 200, seed))
        misses += e.reliable and not e.interval[0] <= truth <= e.interval[1]
    assert misses <= 2


def test_complete_and_given_alphabets_bound_the_interval():
    complete, x = [0, 1, 2, 3] * 25, [*range(8), *[0, 1, 2] * 10]
    assert entropy(complete).interval[1] <= np.log(4) + 1e-12
    assert entropy(x).interval[1] > np.log(8)
    assert entropy(x, alphabet=8).interval[1] <= np.log(8)
