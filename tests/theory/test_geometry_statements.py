"""Geometry, attention, refits: closed forms, the statements under Hypothesis, their ends."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import statements
from theory.statements import _pairs as pairs
from theory.statements import g_f_geometric_functional as g_f
from theory.statements import o1_geometric_not_necessary as o1
from theory.statements import p_f_proximal_functional as p_f
from theory.statements import s6_margin_telescope as s6
from theory.statements import s7_logit_change as s7
from theory.statements import s8_vision_keys as s8
from theory.statements import s8c_early_exit_of_a_net as s8c
from theory.statements import s12_matrix_entropy as s12
from theory.statements import s15a_refit_without_vision as s15a

NUMBERS = st.floats(-5.0, 5.0, allow_nan=False)
SEARCHED = [name for name in statements.ids() if statements.get(name).search is not None]


@pytest.mark.parametrize("name", SEARCHED)
@given(data=st.data())
def test_no_searched_instance_breaks_the_claim(name, data):
    """Hypothesis instead of the optimiser, with its liking for zeros, ties and ends."""
    one = statements.get(name)
    size = one.search.dimension
    vector = np.array(data.draw(st.lists(NUMBERS, min_size=size, max_size=size)))
    instance = one.search.decode(vector)
    assert all(hypothesis.holds(instance) for hypothesis in one.hypotheses)
    assert one.slack(instance) >= -one.tolerance


# --- directions --------------------------------------------------------------------------------


@given(st.floats(0.0, math.pi), st.integers(1, 6))
def test_g_f_is_tight_for_every_angle_and_number_of_tokens(angle, tokens):
    flat = pairs.in_plane([math.pi / 2 - angle / 2], [math.pi / 2 + angle / 2], [1.0])
    x, y = (np.repeat(states, tokens, axis=1) for states in (flat.x, flat.y))
    head = np.tile(flat.a, tokens) / math.sqrt(tokens)
    case = replace(flat, x=x, y=y, a=head)
    assert case.lipschitz
    assert case.change == pytest.approx(2 * math.sqrt(tokens) * math.sin(angle / 2))
    assert g_f.slack(case) == pytest.approx(0.0, abs=1e-7)


@given(st.floats(0.0, math.pi), st.integers(1, 4))
def test_g_f_is_tight_for_a_distance_from_where_the_state_was(angle, tokens):
    flat = pairs.in_plane([0.0], [angle], [1.0])
    x, y = (np.repeat(states, tokens, axis=1) for states in (flat.x, flat.y))
    head = np.tile(flat.a, tokens) / math.sqrt(tokens)
    case = replace(flat, x=x, y=y, a=head, curved=True)
    assert g_f.slack(case) == pytest.approx(0.0, abs=1e-7)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.5))
def test_p_f_is_tight_for_every_delta_and_angle(delta, angle):
    assert p_f.slack(p_f.near_and_opposite(delta, angle)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("curved", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
def test_heads_have_the_constants_they_claim(curved, seed):
    """|h(x,z) - h(y,w)| <= alpha |u-v| + beta |z-w| for every two of the states."""
    rng = np.random.default_rng(seed)
    case = replace(pairs.random_pairs(rng, tokens=2, other=True), curved=curved)
    states, others = np.concatenate([case.x, case.y]), np.concatenate([case.z, case.w])
    u, h = pairs.unit(states).reshape(len(states), -1), case.head(states, others)
    for i, j in combinations(range(len(states)), 2):
        moved = case.alpha * np.linalg.norm(u[i] - u[j])
        moved += case.beta * np.linalg.norm(others[i] - others[j])
        assert abs(h[i] - h[j]) <= moved + 1e-9


# --- stacks ------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 3.0), min_size=2, max_size=5), st.floats(0.1, 3.0))
def test_s6_is_tight_on_growing_lines_of_any_depth(slopes, size):
    layers = [(0, 0, 0, size), (0, 0, 0, size), *((1.0, 0, slope, 0) for slope in slopes)]
    case = s6.on_the_line(*layers)
    expected = 2 * size * math.prod(1 + slope for slope in slopes)
    assert case.bound == pytest.approx(expected)
    assert float(case.full[-1][0] - case.skip[0]) == pytest.approx(expected)


@pytest.mark.parametrize(("start", "kept"), [(-0.99, True), (-1.01, False)])
def test_s6_margin_cannot_be_smaller(start, kept):
    """K B = m/2 is where the answer turns: 2 skipped steps of 1 from just beside -2."""
    stack = replace(s6.on_the_line((0, 0, 0, 1), (0, 0, 0, 1)), start=np.array([start + 1.0]))
    full, skip = stack.head @ stack.full[-1], stack.head @ stack.skip
    assert (np.argmax(full) == np.argmax(skip)) == kept
    assert (stack.to_linf * stack.bound < (full.max() - full.min()) / 2) == kept


@pytest.mark.parametrize("constant", ["to_linf", "to_l2"])
def test_s6_margin_is_lost_at_the_rate_claimed(constant):
    """Both constants are exact for the head (1, -1); the other one is put out of reach."""
    stack = replace(s6.on_the_line((0, 0, 0, 1), (0, 0, 0, 1)), start=np.array([3.0]))
    assert s6.slack(replace(stack, **{constant: 100.0})) == pytest.approx(0.0)
    exact = getattr(stack, constant)
    other = {"to_linf", "to_l2"} - {constant}
    loose = replace(stack, **{constant: 0.9 * exact}, **dict.fromkeys(other, 100.0))
    assert s6.slack(loose) == pytest.approx(-0.4)  # 10 % of 2 K B = 4


@given(st.integers(0, 2**32 - 1))
def test_s8c_bounds_an_exit_for_every_draw(seed):
    net = s8c.generate(np.random.default_rng(seed))
    assert s8c.slack(net) >= -1e-9
    still = replace(net, weights=np.where(np.arange(net.weights.shape[3]) < net.keys, 0.0, 1.0))
    still = replace(still, weights=still.weights * np.ones_like(net.weights) / len(net.text))
    full, skip, bound = replace(still, slopes=still.exact_slopes).run()
    assert bound == 0.0  # no attention on vision: the exit changes nothing
    assert np.allclose(full, skip)


# --- answers -----------------------------------------------------------------------------------


@given(st.floats(0.01, 20.0))
def test_s7_total_variation_is_reached_at_every_oscillation(osc):
    odds = np.array([[osc / 4, -osc / 4], [-osc / 2, osc / 2]])
    p, q = (1 / (1 + np.exp(-s * osc / 2)) for s in (1, -1))
    assert abs(p - q) == pytest.approx(math.tanh(osc / 4))
    assert s7.slack(odds) == pytest.approx(0.0, abs=1e-12)


def test_s7_constant_of_kl_cannot_be_smaller():
    change, p = 1e-3, 0.5
    q = 1 / (1 + math.exp(-change))
    kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert kl / change**2 == pytest.approx(1 / 8, rel=1e-5)


@given(st.floats(-8.0, 8.0), st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_s8_two_keys_in_closed_form(score, vision, text):
    head = s8.Head(np.array([score, 0.0]), np.array([[vision], [text]]), 1)
    a = 1 / (1 + math.exp(-score))
    moved = float((head.output() - head.output(1))[0])
    assert moved == pytest.approx(a * (vision - text), abs=1e-12)
    assert head.a == pytest.approx(a)


# --- matrices and refits -----------------------------------------------------------------------


@given(st.integers(2, 9), st.data())
def test_s12_trace_distance_is_reached_by_signs(n, data):
    """Rows +-1: pure states, T = sqrt(c(2-c)) with c twice the share of signs that differ."""
    flipped = data.draw(st.integers(0, n))
    signs = np.where(np.arange(n) < flipped, -1.0, 1.0)[:, None]
    case = s12.Grams(np.ones((n, 1)), signs, 1.0)
    c = 2 * flipped / n
    assert case.mean_distance == pytest.approx(c)
    assert case.trace_distance == pytest.approx(math.sqrt(c * (2 - c)), abs=1e-7)
    far = replace(case, tau=case.trace_distance)
    assert s12.slack(far) <= 1e-7


@given(st.integers(2, 7), st.floats(0.0, 1.0))
def test_s12_is_tight_for_equal_rows_against_equicorrelated_ones(n, correlation):
    root = np.linalg.cholesky((1 - correlation) * np.eye(n) + correlation + 1e-13 * np.eye(n))
    case = s12.Grams(np.ones((n, 1)) * np.eye(n)[:1], pairs.unit(root), 0.0)
    distance = (1 - correlation) * (1 - 1 / n)
    assert case.trace_distance == pytest.approx(distance, abs=1e-6)
    assert case.change == pytest.approx(s12.continuity(distance, n), abs=1e-6)


def test_s12g_trace_bound_needs_one_gaussian_only():
    """X normal, X' = sign X: correlation sqrt(2/pi), I = H(X') = log 2."""
    correlation = math.sqrt(2 / math.pi)
    assert -0.5 * math.log(1 - correlation**2) < math.log(2)


def refit_error(x, noise, covariance=None):
    gram = np.swapaxes(x, 1, 2) @ x
    b = np.linalg.solve(gram, np.swapaxes(x, 1, 2) @ noise)[:, :, 0]
    spread = np.eye(x.shape[2]) if covariance is None else covariance
    return np.einsum("ri,ij,rj->r", b, spread, b)


@pytest.mark.parametrize("kind", ["correlated", "signs", "uneven", "coins"])
def test_s15a_other_features_and_noises_by_simulation(kind):
    """The closed forms of the counterexamples, and that two hypotheses are superfluous."""
    rng = np.random.default_rng(3)
    runs, n = 20_000, 10
    x, noise = rng.standard_normal((runs, n, 1)), rng.standard_normal((runs, n, 1))
    case = s15a.Regression(n, 0, 1, 1.0)
    covariance = None
    if kind == "signs":
        x, case = np.sign(x), replace(case, features="signs")
    elif kind == "uneven":
        noise, case = noise * np.abs(x), replace(case, homoscedastic=False)
    elif kind == "coins":
        noise = np.sign(noise)
    else:
        mix = np.array([[1.0, 0.8, 0.0], [0.0, 0.5, 2.0], [0.0, 0.0, 1.0]])
        x, covariance = rng.standard_normal((runs, n, 3)) @ mix, mix.T @ mix
        case = replace(case, vision=3)
    errors = refit_error(x, noise, covariance)
    standard = float(errors.std() / math.sqrt(runs))
    assert abs(errors.mean() - case.extra) < 4 * standard
    assert standard < 0.05 * case.extra


@given(st.floats(1e-3, 1.999))
def test_o1_reaches_every_distance(distance):
    axes = np.eye(3)
    s = 0.9 * math.sqrt(min(2 / distance - 1, 1.0))
    case = o1.build(axes[:1], s * axes[0], axes[1], axes[2], distance)
    assert case.in_kernel
    assert case.preserves_norm
    assert o1.slack(case) == pytest.approx(0.0, abs=1e-12)
