"""Discrete measures of a known pmf: closed forms, identities, dit and scipy beside them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from estimators import discrete, strategies
from estimators.discrete import (
    co_information_pmf,
    conditional_mutual_information_pmf,
    dual_total_correlation_pmf,
    entropy_pmf,
    mutual_information_pmf,
    shannon_invariants_pmf,
    total_correlation_pmf,
)

TOLERANCE = 1e-10
XOR = np.zeros((2, 2, 2))
for a in (0, 1):
    for b in (0, 1):
        XOR[a, b, a ^ b] = 0.25
COPY = np.zeros((2, 2, 2))
COPY[0, 0, 0] = COPY[1, 1, 1] = 0.5

whole = pytest.mark.parametrize(
    "measure",
    [entropy_pmf, co_information_pmf, total_correlation_pmf, dual_total_correlation_pmf],
)


def close(a, b):
    return a == pytest.approx(b, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("measure", "xor", "copy"),
    [
        (entropy_pmf, 2.0, 1.0),
        (co_information_pmf, -1.0, 1.0),
        (total_correlation_pmf, 1.0, 2.0),
        (dual_total_correlation_pmf, 2.0, 1.0),
        (mutual_information_pmf, 0.0, 1.0),
        (conditional_mutual_information_pmf, 1.0, 0.0),
        (lambda p, unit: mutual_information_pmf(p, (0, 1), 2, unit=unit), 1.0, 1.0),
        (lambda p, unit: entropy_pmf(p, 0, unit=unit), 1.0, 1.0),
    ],
)
def test_closed_forms_in_bits(measure, xor, copy):
    assert close(measure(XOR, unit="bits"), xor)
    assert close(measure(COPY, unit="bits"), copy)


@given(st.integers(2, 6), st.floats(0.0, 1.0))
def test_symmetric_channel(k, error):
    """I = log k - h(e) - e log(k - 1) for a uniform input that is kept with 1 - e."""
    p = np.full((k, k), error / (k - 1)) / k
    p[range(k), range(k)] = (1.0 - error) / k
    h = -sum(q * math.log(q) for q in (error, 1.0 - error) if q > 0.0)
    assert close(mutual_information_pmf(p), math.log(k) - h - error * math.log(k - 1))


@given(strategies.joint_pmfs((3, (1, 4))))
def test_entropy_is_scipys(p):
    assert close(entropy_pmf(p, unit="bits"), scipy_entropy(p.ravel(), base=2))


@given(strategies.joint_pmfs(3))
def test_bounds(p):
    h = [entropy_pmf(p, axis) for axis in range(3)]
    assert all(-TOLERANCE <= x <= math.log(k) + TOLERANCE for x, k in zip(h, p.shape, strict=True))
    mi = mutual_information_pmf(p)
    assert -TOLERANCE <= mi <= min(h[0], h[1]) + TOLERANCE
    assert conditional_mutual_information_pmf(p) >= -TOLERANCE
    assert -TOLERANCE <= total_correlation_pmf(p) <= sum(h) - max(h) + TOLERANCE
    assert -TOLERANCE <= dual_total_correlation_pmf(p) <= entropy_pmf(p) + TOLERANCE
    assert abs(co_information_pmf(p)) <= min(h) + TOLERANCE


@given(strategies.joint_pmfs(3))
def test_symmetry(p):
    assert close(mutual_information_pmf(p, 0, 1), mutual_information_pmf(p, 1, 0))
    swapped = p.transpose(1, 0, 2)
    assert close(conditional_mutual_information_pmf(p), conditional_mutual_information_pmf(swapped))


@whole
@given(p=strategies.joint_pmfs(3), order=st.permutations(range(3)))
def test_order_of_variables_is_immaterial(measure, p, order):
    assert close(measure(p), measure(p.transpose(order)))


@given(strategies.joint_pmfs(4))
def test_chain_rules(p):
    assert close(entropy_pmf(p, (0, 1)), entropy_pmf(p, 0) + _conditional_entropy(p, 1, 0))
    left = mutual_information_pmf(p, (0, 1), 2)
    right = mutual_information_pmf(p, 0, 2) + conditional_mutual_information_pmf(p, 1, 2, 0)
    assert close(left, right)
    total = (
        mutual_information_pmf(p, 0, 1)
        + mutual_information_pmf(p, (0, 1), 2)
        + mutual_information_pmf(p, (0, 1, 2), 3)
    )
    assert close(total_correlation_pmf(p), total)


def _conditional_entropy(p, axis, given_axis):
    """H(axis | given_axis) as the mean of the entropies of the conditional pmfs."""
    pair = p.sum(axis=tuple(i for i in range(p.ndim) if i not in (axis, given_axis)))
    pair = pair if given_axis < axis else pair.T
    return sum(row.sum() * entropy_pmf(row / row.sum()) for row in pair if row.sum() > 0.0)


@given(strategies.joint_pmfs(3))
def test_three_variables_tie_the_measures_together(p):
    tc, dtc = total_correlation_pmf(p), dual_total_correlation_pmf(p)
    assert close(co_information_pmf(p), tc - dtc)
    by_parts = mutual_information_pmf(p) - conditional_mutual_information_pmf(p)
    assert close(co_information_pmf(p), by_parts)


@given(strategies.joint_pmfs(2))
def test_two_variables_make_them_all_mutual_information(p):
    mi = mutual_information_pmf(p)
    for measure in (co_information_pmf, total_correlation_pmf, dual_total_correlation_pmf):
        assert close(measure(p), mi)


@given(st.data(), strategies.joint_pmfs(2))
def test_data_processing(data, p):
    channel = data.draw(strategies.channels(p.shape[1]))
    assert mutual_information_pmf(p @ channel) <= mutual_information_pmf(p) + TOLERANCE
    renaming = data.draw(strategies.permutation_channels(p.shape[1]))
    assert close(mutual_information_pmf(p @ renaming), mutual_information_pmf(p))


@given(strategies.markov_chains(3))
def test_markov_chains_screen_off(p):
    assert close(conditional_mutual_information_pmf(p, 0, 2, 1), 0.0)
    assert mutual_information_pmf(p, 0, 2) <= mutual_information_pmf(p, 0, 1) + TOLERANCE


@whole
@given(data=st.data(), p=strategies.joint_pmfs(3))
def test_relabelling_and_impossible_symbols_change_nothing(measure, data, p):
    axis = data.draw(st.integers(0, 2))
    order = data.draw(st.permutations(range(p.shape[axis])))
    assert close(measure(np.take(p, order, axis=axis)), measure(p))
    pad = [(0, 0)] * 3
    pad[axis] = (1, 1)
    assert close(measure(np.pad(p, pad)), measure(p))


@whole
@given(p=strategies.joint_pmfs(2), q=strategies.joint_pmfs(2))
def test_additivity_over_products(measure, p, q):
    """Two independent systems side by side: variable i is the pair (X_i, X'_i)."""
    both = np.einsum("ab,cd->acbd", p, q).reshape(p.shape[0] * q.shape[0], p.shape[1] * q.shape[1])
    assert close(measure(both), measure(p) + measure(q))


@whole
@given(p=strategies.joint_pmfs(3))
def test_bits_are_nats_over_log_two(measure, p):
    assert close(measure(p, unit="bits") * math.log(2.0), measure(p))


@given(strategies.joint_pmfs(((2, 3),) * 3, deterministic=False))
def test_dit_agrees(p):
    import dit

    d = dit.Distribution.from_ndarray(p)
    assert entropy_pmf(p, unit="bits") == pytest.approx(dit.shannon.entropy(d), abs=1e-8)
    pairs = [
        (total_correlation_pmf, dit.multivariate.total_correlation),
        (dual_total_correlation_pmf, dit.multivariate.dual_total_correlation),
        (co_information_pmf, dit.multivariate.coinformation),
    ]
    for ours, theirs in pairs:
        assert ours(p, unit="bits") == pytest.approx(theirs(d), abs=1e-8)


@pytest.mark.parametrize(
    ("p", "degrees"), [(XOR, (0.0, 2.0)), (COPY, (2.0, 0.0)), (COPY.sum(axis=1), (1.0, 1.0))]
)
def test_shannon_invariants_closed_forms(p, degrees):
    found = shannon_invariants_pmf(p)
    assert (found.redundancy_degree, found.vulnerability_degree) == pytest.approx(degrees)


@given(strategies.joint_pmfs(((2, 3), (2, 3), (2, 3), (2, 3)), positive=True))
def test_shannon_invariants_are_ratios_within_bounds(p):
    total = mutual_information_pmf(p, (0, 1, 2), 3)
    if total < 1e-6:
        return
    found = shannon_invariants_pmf(p)
    single = sum(mutual_information_pmf(p, i, 3) for i in range(3))
    last = sum(
        conditional_mutual_information_pmf(p, i, 3, tuple({0, 1, 2} - {i})) for i in range(3)
    )
    assert found.redundancy_degree == pytest.approx(single / total, abs=1e-8)
    assert found.vulnerability_degree == pytest.approx(last / total, abs=1e-8)
    assert 0.0 <= found.redundancy_degree <= 3.0 + 1e-8
    assert 0.0 <= found.vulnerability_degree <= 3.0 + 1e-8


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([[0.5, -0.1], [0.3, 0.3]], r"p\[0, 1\] = -0.1 is negative"),
        ([[0.5, math.nan], [0.25, 0.25]], r"p\[0, 1\] = nan is not finite"),
        ([[0.5, 0.2], [0.2, 0.2]], r"p must sum to one, its sum is 1.1"),
        ([[5, 2], [2, 2]], "p holds integers: counts go to estimators.discrete.entropy"),
        ([[5.0, 2.0], [2.0, 2.0]], "p holds integers: counts go to"),
        (np.zeros((0, 2)), r"p is empty, shape \(0, 2\)"),
        (1.0, r"p must have at least one axis, got shape \(\)"),
        ([["a", "b"]], "p must be real numbers, got dtype"),
    ],
)
def test_bad_pmfs_are_refused(p, message):
    with pytest.raises(ValueError, match=message):
        mutual_information_pmf(p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: entropy_pmf([1.0], unit="bytes"), "unknown unit 'bytes'; choose from nats, bits"),
        (lambda: entropy_pmf([1.0], 1), "axes names axis 1; p has axes 0 to 0"),
        (lambda: entropy_pmf(XOR, (0, 0)), "axes must name at least one axis and none twice"),
        (lambda: mutual_information_pmf(XOR, 0, (0, 1)), "axis 0 is in both x and y"),
        (lambda: total_correlation_pmf([1.0]), "p must have at least 2 axes"),
        (lambda: shannon_invariants_pmf([1.0]), "p needs sources and a target"),
        (lambda: shannon_invariants_pmf([[0.25] * 2] * 2), "the degrees are undefined"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_public_name_exists():
    names = [name for name in vars(discrete) if not name.startswith("_")]
    assert {"entropy", "entropy_pmf", "entropy_counts", "shannon_invariants"} <= set(names)
