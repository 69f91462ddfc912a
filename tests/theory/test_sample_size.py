import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theory import certification_power, images_needed, reachable_epsilon, zero_failure_bound

RISK = st.floats(1e-6, 0.5)
EPSILON = st.floats(1e-4, 0.5)


@pytest.mark.parametrize(
    ("plans", "expected"), [(1, (299, 149, 59)), (32, (643, 320, 126))], ids=["one", "bonferroni"]
)
def test_reference_numbers(plans, expected):
    got = tuple(images_needed(epsilon, 0.05, plans=plans) for epsilon in (0.01, 0.02, 0.05))
    assert got == expected


def test_a_paired_drop_needs_far_more():
    assert images_needed(0.02, 0.05, method="hoeffding") == 14_979


@given(EPSILON, RISK, st.integers(1, 50))
def test_it_is_the_smallest_number(epsilon, delta, plans):
    n = images_needed(epsilon, delta, plans=plans)
    assert zero_failure_bound(n, delta / plans) <= epsilon * (1 + 1e-9)
    if n > 1:
        assert zero_failure_bound(n - 1, delta / plans) > epsilon * (1 - 1e-9)


@given(EPSILON, RISK)
def test_hoeffding_is_the_smallest_number(epsilon, delta):
    n = images_needed(epsilon, delta, method="hoeffding")
    width = [2 * math.sqrt(math.log(1 / delta) / (2 * k)) for k in (n, max(n - 1, 1))]
    assert width[0] <= epsilon * (1 + 1e-9)
    assert n == 1 or width[1] > epsilon * (1 - 1e-9)


@given(st.integers(1, 5000), RISK)
def test_the_zero_failure_bound_is_the_beta_quantile(n, delta):
    expected = stats.beta.ppf(1 - delta, 1, n)
    assert zero_failure_bound(n, delta) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: images_needed(0.0, 0.05), "epsilon must lie strictly between 0 and 1, got 0.0"),
        (lambda: images_needed(0.02, 1.0), "delta must lie strictly between 0 and 1, got 1.0"),
        (lambda: images_needed(0.02, 0.05, plans=0), "plans must be at least 1, got 0"),
        (lambda: images_needed(0.02, 0.05, method="t"), "unknown method 't'; choose from clopper"),
        (lambda: zero_failure_bound(0, 0.05), "n must be at least 1, got 0"),
        (lambda: zero_failure_bound(9, -0.1), "delta must lie strictly between 0 and 1, got -0.1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("n", "delta", "plans"), [(14_979, 0.05, 1), (1000, 0.05, 1), (800, 0.2, 4)]
)
def test_width_of_hoeffding_for_a_paired_drop(n, delta, plans):
    """(high - low) sqrt(log(plans / delta) / (2 n)) with the range 2, from both functions."""
    width = 2.0 * math.sqrt(math.log(plans / delta) / (2 * n))
    options = {"plans": plans, "method": "hoeffding"}
    assert reachable_epsilon(n, delta, **options) == pytest.approx(width, rel=1e-12)
    for epsilon, power in ((width * (1 + 1e-6), 1.0), (width * (1 - 1e-4), 0.0)):
        assert certification_power(n, epsilon, delta, harmed=0.0, **options) == power


@given(EPSILON, st.floats(1e-3, 0.5))
def test_power_of_hoeffding_starts_at_the_images_needed(epsilon, delta):
    n = images_needed(epsilon, delta, method="hoeffding")
    options = {"harmed": 0.0, "method": "hoeffding"}
    if 1 < n < 10**6:
        assert certification_power(n + 1, epsilon, delta, **options) == 1.0
        assert certification_power(n - 1, epsilon, delta, **options) == 0.0


@pytest.mark.parametrize("method", ["clopper-pearson", "hoeffding"])
def test_an_epsilon_out_of_reach_is_refused(method):
    with pytest.raises(ValueError, match=r"^epsilon 1e-200 needs more than 1000000000000 images$"):
        images_needed(1e-200, 0.05, method=method)
