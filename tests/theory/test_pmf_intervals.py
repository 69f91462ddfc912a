"""Entropies in floats and as intervals: identities, agreement with each other and with SciPy."""

from __future__ import annotations

import decimal
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from theory.intervals import (
    BITS,
    Interval,
    entropy_interval,
    information_interval,
    log_interval,
)
from theory.pmf import (
    as_pmf,
    entropy,
    information,
    kl_divergence,
    marginal,
    random_pmf,
    softmax_pmf,
)

tables = hnp.arrays(np.int64, (2, 3, 2), elements=st.integers(0, 9)).filter(lambda t: t.any())


@given(tables)
def test_entropy_agrees_with_scipy(counts):
    p = as_pmf(counts)
    assert entropy(p) == pytest.approx(stats.entropy(p.ravel()), abs=1e-12)
    assert entropy(p, [1]) == pytest.approx(stats.entropy(p.sum(axis=(0, 2))), abs=1e-12)


@given(tables)
def test_chain_rules(counts):
    p = as_pmf(counts)
    assert entropy(p, [0, 1]) == pytest.approx(
        entropy(p, [0]) + entropy(p, [1], given=[0]), abs=1e-12
    )
    both = information(p, [0], [1, 2])
    assert both == pytest.approx(
        information(p, [0], [2]) + information(p, [0], [1], given=[2]), abs=1e-12
    )
    assert information(p, [0], [1]) == pytest.approx(
        kl_divergence(marginal(p, [0, 1]), np.multiply.outer(marginal(p, [0]), marginal(p, [1]))),
        abs=1e-12,
    )


@given(tables)
def test_intervals_hold_the_value_and_are_narrow(counts):
    p = as_pmf(counts)
    for found, value in (
        (entropy_interval(counts, [0, 2], given=[1]), entropy(p, [0, 2], given=[1])),
        (information_interval(counts, [0], [1], given=[2]), information(p, [0], [1], given=[2])),
    ):
        assert found.lower <= found.upper
        assert found.upper - found.lower < Fraction(1, 2**80)
        assert float(found.lower) == pytest.approx(value, abs=1e-12)


@given(st.integers(1, 5000))
def test_logarithms_are_enclosed(n):
    found = log_interval(n)
    assert found.lower <= found.upper
    assert found.upper - found.lower <= Fraction(n.bit_length() * 2, 2**BITS) + Fraction(2, 2**BITS)
    assert float(found.lower) == pytest.approx(math.log(n), rel=1e-15, abs=1e-300)


@given(st.integers(1, 60), st.integers(1, 60))
def test_logarithms_add_up(a, b):
    """log(ab) must meet log a + log b: an enclosure that missed its number would not."""
    together, apart = log_interval(a * b), log_interval(a) + log_interval(b)
    assert together.lower <= apart.upper
    assert apart.lower <= together.upper


def test_logarithms_hold_the_value_to_sixty_digits():
    with decimal.localcontext() as context:
        context.prec = 60
        for n in range(1, 1000):
            exact, found = Fraction(decimal.Decimal(n).ln()), log_interval(n)
            assert found.lower <= exact <= found.upper, n


def test_interval_arithmetic_keeps_order():
    x = Interval(Fraction(1), Fraction(2))
    assert (x - x) == Interval(Fraction(-1), Fraction(1))
    assert x * -2 == Interval(Fraction(-4), Fraction(-2))


@given(st.integers(0, 2**32 - 1))
def test_random_and_softmax_pmfs(seed):
    rng = np.random.default_rng(seed)
    for p in (random_pmf(rng, (2, 3)), softmax_pmf(rng.normal(size=6) * 100, (2, 3))):
        assert p.shape == (2, 3)
        assert (p >= 0).all()
        assert p.sum() == pytest.approx(1.0)


def test_divergence_is_infinite_off_the_support():
    assert kl_divergence(as_pmf([1, 1]), as_pmf([1, 0])) == math.inf


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, math.nan], [math.inf, 1]])
def test_weights_are_validated(weights):
    with pytest.raises(ValueError, match=r"^a pmf needs finite weights >= 0 that are not all"):
        as_pmf(weights)


def test_counts_are_validated():
    with pytest.raises(ValueError, match=r"^counts must be whole numbers >= 0 that are not all"):
        entropy_interval(np.array([0, 0]), [0])
    with pytest.raises(ValueError, match=r"^the logarithm needs a whole number >= 1, got 0$"):
        log_interval(0)
