"""Information that correlations and naive neighbours get wrong: right, or not called reliable."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks._reliable_mi import binary_entropy, digits, of_sign, uniform_copy, zeroed
from estimators import conditional_mutual_information, entropy, mutual_information, tasks
from estimators.information._canonical import canonical
from estimators.information._dependence import ALARM, dependences
from estimators.information._draws import draws
from estimators.information._request import Request
from estimators.information.copula import look_gaussian

LN2 = math.log(2.0)


def rng(seed=0):
    return np.random.default_rng(seed)


def inside(estimate, truth):
    return estimate.interval[0] <= truth <= estimate.interval[1]


def never_wrong(estimate, truth):
    """Right, if it says that it is reliable."""
    return inside(estimate, truth) or not estimate.reliable


# --- near copies and infinite information --------------------------------------------------------


@pytest.mark.parametrize("s", [0.1, 1e-2, 1e-4, 1e-8])
@pytest.mark.parametrize("d", [1, 3])
def test_near_copies_of_gaussians_are_resolved(d, s):
    x, e = rng().normal(size=(2, 1000, d))
    found = mutual_information(x, x + s * e, level=0.999)
    assert inside(found, 0.5 * d * math.log1p(s**-2))
    assert found.reliable


@pytest.mark.parametrize("s", [0.1, 1e-2, 1e-4])
@pytest.mark.parametrize("d", [1, 4])
def test_near_copies_of_other_marginals(d, s):
    x, e = rng(1).normal(size=(2, 1000, d))
    found = mutual_information(np.exp(x), np.exp(x + s * e), level=0.999)
    assert never_wrong(found, 0.5 * d * math.log1p(s**-2))
    x, y = uniform_copy(1000, d, s, rng(2))
    assert never_wrong(mutual_information(x, y, level=0.999), d * (s / 2 - math.log(s)))


def test_copies_that_ranks_do_not_tell_apart_have_no_upper_end():
    x, e = rng().normal(size=(2, 500, 4))
    found = mutual_information(np.exp(x), np.exp(x + 1e-5 * e), method="copula")
    assert found.interval[1] == math.inf
    assert found.interval[0] < 4 * math.log(1e5)
    assert "500 ranks put no upper limit on their mutual information" in found.reason


@pytest.mark.parametrize("method", ["auto", "gaussian", "spiked", "gaussian-pair"])
def test_what_is_shared_exactly_is_infinite(method):
    x, y = rng().normal(size=(2, 400, 4))
    for other in (x, 2 * x + 1, x @ rng(3).normal(size=(4, 4)), np.c_[y[:, :3], x[:, 0]]):
        found = mutual_information(x, other, method=method)
        assert found.value == found.interval[1] == math.inf
        assert 10 < found.interval[0] < math.inf
        assert not found.reliable
        assert "determine each other in" in found.reason
        assert type(found).from_json(found.to_json()) == found


def test_small_sines_do_not_cancel():
    x, e = rng().normal(size=(2, 300, 2))
    for s in (1e-3, 1e-6, 1e-9, 1e-12):
        gaps = canonical(x, x + s * e).gaps
        assert gaps == pytest.approx(s * s, rel=0.5)
    assert canonical(x, x).determined == 2


@pytest.mark.parametrize("n", [20, pytest.param(101, marks=pytest.mark.slow), 250])
@pytest.mark.parametrize("of", [np.exp, lambda x: 2 * x + 1, np.negative, np.sign, lambda x: x**3])
def test_functions_of_a_column_raise_no_foreign_error(n, of):
    for seed, scale in enumerate((2.0**-1000, 2.0**-500, 1e200, 2.0**1000)):
        x = rng(seed).normal(size=(n, 1))
        found = mutual_information(x, of(x))
        assert found.interval[0] >= 0
        scaled = mutual_information(scale * x, of(x))
        assert scaled == found if scale != 1e200 else scaled.reliable == found.reliable


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**1000])
def test_information_sees_no_scale_but_entropy_does(scale):
    x, y, z = rng().normal(size=(3, 200, 1))
    y = y + x
    given = conditional_mutual_information(x, y, z)
    assert conditional_mutual_information(scale * x, y, scale * z) == given
    labels = x[:, 0] > 0
    assert mutual_information(scale * y, labels) == mutual_information(y, labels)
    with pytest.raises(ValueError, match="rescale"):
        entropy(scale * x)


# --- dependence without correlation --------------------------------------------------------------


def gates(x):
    return {
        "product": x[:, 0] * x[:, 1],
        "mixed": (x @ np.ones(6)) * (x @ np.array([1, -1, 1, -1, 1, -1])) / 6,
        "square": x[:, 0] ** 2,
        "parity": np.sign(x[:, :3].prod(axis=1)),
        "long": np.sign(x[:, :5].prod(axis=1)),
        "scale": np.abs(x[:, 0]) * rng(9).normal(size=len(x)),
    }


@pytest.mark.parametrize("gate", ["product", "mixed", "square", "parity", "long", "scale"])
@pytest.mark.parametrize("turned", [False, True])
def test_gates_are_told(gate, turned):
    x, y = rng().normal(size=(2, 1500, 6))
    y[:, 0] = gates(x)[gate] + 0.3 * y[:, 0]
    if turned and gate in ("product", "mixed", "square"):
        x, y = (side @ rng(5).normal(size=(6, 6)) for side in (x, y))
    for one, other in ((x, y), (y, x)):
        found = mutual_information(one, other)
        assert not found.reliable
        assert "depends on" in found.reason or "not Gaussian" in found.reason


@pytest.mark.parametrize(("n", "p", "q"), [(300, 1, 1), (500, 4, 2), (600, 15, 10)])
def test_independent_residuals_pass(n, p, q):
    runs = 60 if p < 10 else 15
    alarms = 0
    for seed in range(runs):
        x, e = rng(seed).normal(size=(n, p)), rng(seed + 999).normal(size=(n, q))
        alarms += len(list(dependences(x, e, (x, e))))
    assert alarms <= 1, f"{alarms} alarms at {ALARM} in {4 * runs} tests"


@pytest.mark.parametrize("seed", range(201, 204))
def test_cubic_dependence_of_the_strongest_directions_is_told(seed):
    """Marginals are normal after ranking; only products of three variates show the bend."""
    task = tasks.task("spiral-normal_cdf-multinormal-sparse-25-25-2-2.0")
    assert not mutual_information(*task.sample(2000, seed=seed)).reliable


@pytest.mark.slow
def test_ksg_intervals_hold_a_bias_that_falls_slowly():
    """Half of the bias is beyond I + 1.5 (I - I_half): Student in 2 + 2 columns, 2,000 rows."""
    task = tasks.task("student-identity-2-2-2")
    found = [mutual_information(*task.sample(2000, seed=seed)) for seed in range(201, 217)]
    held = [one.interval[0] <= task.mutual_information <= one.interval[1] for one in found]
    assert sum(held) >= 13


def test_noise_that_is_not_gaussian_is_told():
    """x and y look Gaussian, but the difference between them does not."""
    x = rng().normal(size=(2000, 6))
    y = x + 0.02 * rng(1).uniform(-1, 1, size=x.shape)
    found = mutual_information(x, y)
    assert "what x leaves unexplained of y is not Gaussian: its kurtosis is 0.6" in found.reason


# --- repeated values -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.005, 0.02, 0.04])
@pytest.mark.parametrize("d", [1, 2])
def test_rows_that_are_zero_on_both_sides(d, share):
    found = mutual_information(*zeroed(3000, d, share, rng()), level=0.99)
    assert never_wrong(found, binary_entropy(share))
    assert found.reliable == (d == 1)


def test_rows_that_are_zero_on_both_sides_in_many_columns_are_told():
    found = mutual_information(*zeroed(3000, 6, 0.01, rng()))
    assert "of the rows of x and y together repeat another row" in found.reason


def test_digits_as_numbers_have_their_discrete_information():
    found = mutual_information(*digits(4000, rng()), method="ksg1", level=0.99)
    assert found.value == pytest.approx(0.625 * math.log(2.5) + 0.375 * math.log(0.5), abs=0.04)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_zeros_that_say_nothing_about_a_label(share):
    x = rng().normal(size=(3000, 1))
    x[rng(1).random(3000) < share] = 0.0
    found = mutual_information(x, rng(2).integers(0, 2, 3000))
    assert found.interval[0] <= 0.0
    assert found.interval[1] < 0.1


def test_a_label_tells_at_most_its_entropy():
    x = rng().normal(size=(800, 1))
    for y, most in ((x[:, 0] > 0, LN2), (x[:, 0] > 2, 0.15), ((4 * x[:, 0]).astype(int), 3.0)):
        found = mutual_information(x, y)
        assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= most
    one = np.ones((2000, 1))
    one[-1] = 2.0
    found = mutual_information(one, np.arange(2000) < 40)
    assert found.interval[0] == 0.0
    assert found.interval[1] <= binary_entropy(0.03)


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_borders_of_classes(d):
    x = rng().normal(size=(1500, d))
    assert never_wrong(mutual_information(x, x[:, 0] > 0), LN2)
    if d > 1:
        assert never_wrong(mutual_information(x, x[:, 0] * x[:, -1] > 0), LN2)


# --- clusters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ksg1", "ksg2", "copula", "auto"])
@pytest.mark.parametrize("jitter", [0.0, 1e-6])
def test_a_repeated_row_is_no_neighbour_of_itself(method, jitter):
    x, e = rng().normal(size=(2, 400, 1))
    y = 0.6 * x + 0.8 * e
    once = mutual_information(x, y, method=method)
    rows = [np.repeat(side, 4, axis=0) for side in (x, y)]
    rows = [side + jitter * rng(1).normal(size=side.shape) for side in rows]
    four = mutual_information(*rows, method=method, clusters=np.repeat(np.arange(400), 4))
    assert four.n == 400
    assert four.value == pytest.approx(once.value, abs=0.05)
    assert inside(four, -0.5 * math.log(0.64))


@pytest.mark.parametrize(("d", "images", "tokens"), [(1, 200, 10), (2, 100, 20), (3, 60, 30)])
def test_the_label_of_an_image_is_not_found_in_its_own_tokens(d, images, tokens):
    wrong = 0
    for seed in range(5):
        image = np.repeat(np.arange(images), tokens)
        own = rng(seed).normal(size=(images, d))[image]
        x = 0.95 * own + 0.3 * rng(seed + 50).normal(size=own.shape)
        y = rng(seed + 100).integers(0, 2, images)[image]
        wrong += not never_wrong(mutual_information(x, y, clusters=image), 0.0)
    assert wrong <= 1


def test_given_a_third_a_repeated_row_is_no_neighbour_of_itself():
    x, y, z = (np.repeat(side, 5, axis=0) for side in rng().normal(size=(3, 400, 1)))
    found = conditional_mutual_information(
        x, y, z, method="knn", clusters=np.repeat(np.arange(400), 5)
    )
    assert inside(found, 0.0)
    assert found.value < 0.1


def test_draws_go_through_the_rows_of_a_cluster():
    ask = Request(codes=np.array([0, 0, 0, 1, 2, 2]))
    found = draws(ask, 6)
    assert len(found) == 3
    assert [sorted(set(rows)) for rows in zip(*found, strict=True)] == [[0, 1, 2], [3], [4, 5]]
    assert [rows.tolist() for rows in draws(Request(), 3)] == [[0, 1, 2]]


@pytest.mark.parametrize("method", ["auto", "ksg1", "copula", "shrinkage"])
def test_no_result_depends_on_the_order_of_the_file(method):
    x, e = rng().exponential(size=(2, 240, 2))
    image = np.repeat(np.arange(80), 3)
    order = rng(1).permutation(240)
    for clusters in (None, image):
        moved = None if clusters is None else clusters[order]
        one = mutual_information(x, x + e, method=method, clusters=clusters)
        two = mutual_information(x[order], (x + e)[order], method=method, clusters=moved)
        assert two.value == pytest.approx(one.value, abs=1e-9)
        assert two.interval == pytest.approx(one.interval, abs=1e-9)


def test_permuted_clusters_keep_the_places_of_their_rows():
    """Rows are ordered by what they hold; matched in that order, independent clusters correlate."""
    x, y = rng().normal(size=(2, 300, 1))
    found = mutual_information(
        x, y, method="gaussian", clusters=np.repeat(np.arange(60), 5), permutations=200
    )
    seen = float(found.diagnostics["unbiased"])
    assert abs(seen) < 0.02
    assert 0.02 < found.diagnostics["p_value"] < 0.98


# --- given a third variable ----------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_products_of_the_third_are_told(turned):
    z = rng().normal(size=(1500, 10))
    both = (z[:, ::2] * z[:, 1::2]).sum(axis=1, keepdims=True) / 5**0.5
    x, y = (both + 0.3 * rng(seed).normal(size=both.shape) for seed in (1, 2))
    if turned:
        z = z @ rng(3).normal(size=(10, 10))
    found = conditional_mutual_information(x, y, z)
    assert "the dependence on z is not linear" in found.reason


def test_a_third_that_nearly_determines_the_first():
    z, e, f = rng().normal(size=(3, 1000, 2))
    found = conditional_mutual_information(z + 1e-3 * e, z + 1e-3 * f, z, level=0.999)
    assert inside(found, 0.0)
    found = conditional_mutual_information(
        np.exp(z + 1e-3 * e), np.exp(z + 1e-3 * f), np.exp(z), method="copula"
    )
    assert "z determines a column of x or y to within" in found.reason


# --- parts ---------------------------------------------------------------------------------------


def test_marginals_are_told_apart():
    draw = np.arange(2000)
    assert look_gaussian(rng().normal(size=(2000, 20)), draw)
    for rows in (
        rng().random((2000, 1)),
        rng().standard_t(4, (2000, 1)),
        rng().normal(size=(2000, 1)) ** 3,
    ):
        assert not look_gaussian(rows, draw)


def test_information_of_a_sign_is_that_of_its_mixture():
    assert of_sign(0.05) == pytest.approx(LN2, abs=1e-6)
    x = np.sign(rng().normal(size=(4000, 1)))
    found = mutual_information(x + rng(1).normal(size=x.shape), x[:, 0] > 0)
    assert inside(found, of_sign(1.0))
