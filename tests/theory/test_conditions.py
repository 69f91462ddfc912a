"""Conditions: each value against a plain computation, each `Bound` honest, bad numbers named."""

from __future__ import annotations

import inspect
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import cosine_distance
from theory import conditions as c
from theory import statements
from theory.conditions import Bound
from theory.pmf import entropy, information, kl_divergence, marginal, random_pmf
from theory.systems import attention_head, gate, gaussian_system, run_toy, toy_vlm

SEEDS = st.integers(0, 10_000)

#: One valid call of every condition.
CALLS = {
    "tail_from_mean": lambda: c.tail_from_mean(0.02, threshold=0.1),
    "mean_from_tail": lambda: c.mean_from_tail(0.1, threshold=0.2),
    "functional_gap_from_cosine": lambda: c.functional_gap_from_cosine(0.02),
    "functional_gap_from_tail": lambda: c.functional_gap_from_tail(0.1, threshold=0.02),
    "state_gap": lambda: c.state_gap(3.0, 4.0, 1.0),
    "matrix_entropy_change": lambda: c.matrix_entropy_change(0.01, n=64),
    "margin_certificate": lambda: c.margin_certificate([1.0], [3.0], lipschitz=1.0),
    "telescoping_bound": lambda: c.telescoping_bound([1.0], [1.0], {0}),
    "kl_from_logit_change": lambda: c.kl_from_logit_change([1.0, 0.0]),
    "tv_from_logit_change": lambda: c.tv_from_logit_change([1.0, 0.0]),
    "log_prob_change_from_logit_change": lambda: c.log_prob_change_from_logit_change([1.0, 0.0]),
    "removal_bound_from_var": lambda: c.removal_bound_from_var(0.5, diameter=2.0),
    "exit_bound_from_var": lambda: c.exit_bound_from_var([[0.5]], [[2.0]], [[1.0]], [1.0]),
    "drop_bound_from_disagreement": lambda: c.drop_bound_from_disagreement(0.02),
    "information_gap_from_support": lambda: c.information_gap_from_support(
        0.1, size=8, largest_ball=2, smallest_ball=1
    ),
    "risk_gap_from_information": lambda: c.risk_gap_from_information(0.02),
    "vision_removal_cost": lambda: c.vision_removal_cost(0.7, 0.2),
    "nll_change_from_kl": lambda: c.nll_change_from_kl(0.2, 0.1),
    "late_entry_loss_from_collisions": lambda: c.late_entry_loss_from_collisions([1, 2], [1, 1]),
    "error_from_entropy": lambda: c.error_from_entropy(0.3),
    "fano_error": lambda: c.fano_error(0.3, classes=4),
    "fano_accuracy_drop": lambda: c.fano_accuracy_drop(0.1, 0.3, classes=4),
    "early_exit_loss_from_pid": lambda: c.early_exit_loss_from_pid(0.0, 0.7),
    "withdrawal_gap_next": lambda: c.withdrawal_gap_next(
        0.3, text_information=0.5, next_text_information=0.6
    ),
    "usable_information_unsafety": lambda: c.usable_information_unsafety(0.7, nll_full=0.1),
    "gaussian_information_from_correlation": lambda: c.gaussian_information_from_correlation(
        0.5, d=2
    ),
    "gaussian_information_floor": lambda: c.gaussian_information_floor(0.5 * np.eye(3)),
    "gaussian_exit_loss": lambda: c.gaussian_exit_loss(np.eye(3), n_vision=1),
    "refit_cost": lambda: c.refit_cost(1.0, n=40, d_text=10, d_vision=10),
}
PUBLIC = sorted(name for name, found in vars(c).items() if inspect.isfunction(found))


def test_every_condition_is_called_here():
    assert sorted(CALLS) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_bound_names_its_statement_and_survives_json(name):
    bound = CALLS[name]()
    assert bound.statement in statements.ids()
    assert bound.checked, "something was checked on the numbers given"
    again = Bound.from_json(json.loads(json.dumps(bound.to_json(), allow_nan=False)))
    assert again == bound
    assert bound.statement in str(bound)


#: Values by hand, at numbers where every part of a formula counts.
BY_HAND = [
    (c.tail_from_mean(0.3, threshold=0.1), 1.0),
    (c.mean_from_tail(0.25, threshold=0.4), 0.75 * 0.4 + 0.5),
    (c.functional_gap_from_cosine(0.02, lipschitz=2.0, n_tokens=9), 2.0 * 0.6),
    (c.functional_gap_from_tail(0.25, threshold=0.02, lipschitz=2.0), 2.0 * (0.75 * 0.2 + 0.5)),
    (c.margin_certificate([0.9, 1.1, 1.0], [2.0, 2.0, 2.0], lipschitz=1.0), 2 / 3),
    (c.telescoping_bound([1.0, 2.0, 3.0], [9.0, 0.5, 7.0], {0, 2}), 1.5 + 3.0),
    (c.exit_bound_from_var([[0.5], [0.2]], [[2.0], [1.0]], [[3.0], [1.0]], [9, 0.5]), 4.5 + 0.2),
    (c.kl_from_logit_change([2.0, -2.0]), 2.0),
    (c.tv_from_logit_change([2.0, -2.0]), math.tanh(1.0)),
    (c.error_from_entropy(0.2), 0.1 / math.log(2)),
    (c.error_from_entropy(3.0), 1 - math.exp(-3.0)),
    (c.risk_gap_from_information(0.02, loss_range=3.0), 0.3),
    (c.risk_gap_from_information(4.0), math.sqrt(1 - math.exp(-4.0))),
    (
        c.information_gap_from_support(0.1, size=9, largest_ball=3, smallest_ball=1),
        -0.1 * math.log(0.1) - 0.9 * math.log(0.9) + 0.9 * math.log(3) + 0.1 * math.log(8),
    ),
    (
        c.matrix_entropy_change(0.02, n=10),
        (t := math.sqrt(0.02 * 1.98)) * math.log(9) - t * math.log(t) - (1 - t) * math.log(1 - t),
    ),
]


@pytest.mark.parametrize(("bound", "value"), BY_HAND, ids=lambda x: getattr(x, "statement", ""))
def test_values_by_hand(bound, value):
    assert bound.value == pytest.approx(value, rel=1e-12)


def test_the_slice_bound_needs_the_number_of_tokens():
    # Every token turns by the same small angle and h reads all of them at once.
    n, angle = 16, 0.01
    x = np.tile([1.0, 0.0], (n, 1))
    y = np.tile([math.cos(angle), math.sin(angle)], (n, 1))
    d = float(cosine_distance(x, y).mean())
    chord = float(np.linalg.norm(x - y))
    assert chord > c.functional_gap_from_cosine(d).value
    assert chord == pytest.approx(c.functional_gap_from_cosine(d, n_tokens=n).value)


# --- geometric ------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.01, 2.0), st.floats(0.001, 1.0))
def test_tail_and_mean_bound_each_other(seed, spread, threshold):
    d = np.clip(np.random.default_rng(seed).exponential(spread, 200), 0, 2)
    tail = float((d > threshold).mean())
    assert tail <= c.tail_from_mean(float(d.mean()), threshold=threshold).value + 1e-12
    assert d.mean() <= c.mean_from_tail(tail, threshold=threshold).value + 1e-12


@given(SEEDS, st.integers(1, 5), st.floats(0.0, 3.0))
def test_functional_gaps_hold_for_functions_of_the_direction(seed, n_tokens, noise):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, n_tokens, 6))
    y = 2.0 * x + noise * rng.normal(size=x.shape)
    a = rng.normal(size=(n_tokens, 6))
    a /= np.linalg.norm(a)  # h(x) = <a, directions> is 1-Lipschitz in the stacked directions

    def h(z):
        return np.einsum("nti,ti->n", z / np.linalg.norm(z, axis=-1, keepdims=True), a)

    d = cosine_distance(x.reshape(-1, 6), y.reshape(-1, 6))
    gap = abs(h(x).mean() - h(y).mean())
    assert gap <= c.functional_gap_from_cosine(float(d.mean()), n_tokens=n_tokens).value + 1e-9
    if n_tokens == 1:
        tail = float((d > 0.1).mean())
        assert gap <= c.functional_gap_from_tail(tail, threshold=0.1).value + 1e-9


def test_other_modality_adds_its_shift():
    found = c.functional_gap_from_cosine(0.5, lipschitz=2.0, other_lipschitz=3.0, other_shift=0.1)
    assert found.value == pytest.approx(2.0 + 0.3)


@given(SEEDS)
def test_state_gap_is_the_law_of_cosines(seed):
    x, y = np.random.default_rng(seed).normal(size=(2, 1, 5))
    found = c.state_gap(
        float(np.linalg.norm(x)), float(np.linalg.norm(y)), float(cosine_distance(x, y)[0])
    )
    assert found.value == pytest.approx(float(np.linalg.norm(x - y)), rel=1e-9)


@given(SEEDS, st.integers(2, 12), st.floats(0.0, 1.0))
def test_matrix_entropy_change(seed, n, noise):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    y = x + noise * rng.normal(size=x.shape)

    def matrix_entropy(z):
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        w = np.linalg.eigvalsh(z @ z.T / n)
        w = w[w > 1e-15]
        return -float((w * np.log(w)).sum())

    bound = c.matrix_entropy_change(float(cosine_distance(x, y).mean()), n=n)
    assert abs(matrix_entropy(x) - matrix_entropy(y)) <= bound.value + 1e-9


# --- functional -----------------------------------------------------------------------------


@given(SEEDS, st.floats(0.01, 3.0))
def test_a_certified_margin_does_not_change(seed, size):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(4, 8))
    h, f = rng.normal(size=(30, 8)), size * rng.normal(size=(30, 8)) * rng.random((30, 1))
    logits = h @ w.T
    top = np.sort(logits, axis=1)
    margins = top[:, -1] - top[:, -2]
    constant = float(np.linalg.norm(w, axis=1).max())
    bound = c.margin_certificate(np.linalg.norm(f, axis=1), margins, lipschitz=constant)
    changed = ((h + f) @ w.T).argmax(1) != logits.argmax(1)
    assert changed.mean() <= bound.value + 1e-12


@given(SEEDS, st.sets(st.integers(0, 4)))
def test_telescoping_on_a_stack_of_global_lipschitz_layers(seed, skipped):
    rng = np.random.default_rng(seed)
    layers = [rng.normal(size=(6, 6)) / 4 for _ in range(5)]
    slopes = [float(np.linalg.norm(w, 2)) for w in layers]  # of x -> tanh(W x)
    h = g = rng.normal(size=6)
    norms = []
    for layer, w in enumerate(layers):
        norms.append(float(np.linalg.norm(np.tanh(w @ h))))
        h = h + np.tanh(w @ h)
        if layer not in skipped:
            g = g + np.tanh(w @ g)
    bound = c.telescoping_bound(norms, slopes, skipped)
    assert np.linalg.norm(h - g) <= bound.value + 1e-9
    assert (bound.value == 0) == (not skipped)


@given(SEEDS, st.floats(0.0, 5.0))
def test_logit_changes(seed, size):
    rng = np.random.default_rng(seed)
    z, dz = rng.normal(size=6), size * rng.normal(size=6)
    p, q = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (z, z + dz))
    kl = c.kl_from_logit_change(dz).value + 1e-12
    assert kl_divergence(p, q) <= kl
    assert kl_divergence(q, p) <= kl
    assert 0.5 * np.abs(p - q).sum() <= c.tv_from_logit_change(dz).value + 1e-12
    worst = np.abs(np.log(p) - np.log(q)).max()
    assert worst <= c.log_prob_change_from_logit_change(dz).value + 1e-12


@given(st.floats(0.01, 0.99), st.sampled_from(["equal", "split", "random"]), SEEDS)
def test_removal_bound_on_heads_with_known_change(var, geometry, seed):
    head = attention_head(var, geometry=geometry, seed=seed)
    bound = c.removal_bound_from_var(var, diameter=head.diameter).value
    assert head.change <= bound + 1e-9
    if geometry == "split":
        assert head.change == pytest.approx(bound)


@given(SEEDS)
@settings(max_examples=30)
def test_exit_bound_on_a_stack_of_heads_and_linear_layers(seed):
    rng = np.random.default_rng(seed)
    h = g = rng.normal(size=8)
    var, diameters, norms, slopes = [], [], [], []
    for layer in range(3):
        # Heads whose scores are fixed: the update without vision does not depend on the state.
        made = [
            attention_head(float(rng.uniform(0.1, 0.8)), seed=seed + 10 * layer + i)
            for i in range(2)
        ]
        out = [rng.normal(size=(8, 8)) / 4 for _ in made]
        h = h + sum(w @ head.output() for w, head in zip(out, made, strict=True))
        g = g + sum(w @ head.output(vision=False) for w, head in zip(out, made, strict=True))
        var.append([head.var for head in made])
        diameters.append([head.diameter for head in made])
        norms.append([float(np.linalg.norm(w, 2)) for w in out])
        slopes.append(0.0)
        mlp = rng.normal(size=(8, 8)) / 6
        h, g = h + np.tanh(mlp @ h), g + np.tanh(mlp @ g)
        var.append([0.0, 0.0])
        diameters.append([0.0, 0.0])
        norms.append([0.0, 0.0])
        slopes.append(float(np.linalg.norm(mlp, 2)))
    bound = c.exit_bound_from_var(var, diameters, norms, slopes)
    assert np.linalg.norm(h - g) <= bound.value + 1e-9


def test_cosine_bounds_nothing_on_the_toy_vlm():
    toy = toy_vlm()
    layer = toy.schedule.index("scale_text")
    full = run_toy(toy, [0], [1])
    before, after = full.states[layer][:, -1], full.states[layer + 1][:, -1]
    d = float(cosine_distance(before, after)[0])
    assert d == pytest.approx(0.0, abs=1e-15)
    gap = c.state_gap(float(np.linalg.norm(before)), float(np.linalg.norm(after)), d)
    assert gap.value == pytest.approx(float(np.linalg.norm(after - before)))
    assert gap.value > 2.0


# --- informational --------------------------------------------------------------------------


@given(SEEDS, st.integers(2, 4), st.integers(2, 4))
def test_entropy_conditions_on_random_pmfs(seed, k, z):
    p = random_pmf(np.random.default_rng(seed), (z, z, k))  # V, T, Y
    error_full = 1.0 - float(p.max(axis=2).sum())
    error_text = 1.0 - float(marginal(p, [1, 2]).max(axis=1).sum())
    h_full, h_text = entropy(p, [2], given=[0, 1]), entropy(p, [2], given=[1])
    h_full, h_text = max(h_full, 0.0), max(h_text, 0.0)
    assert error_full <= c.error_from_entropy(h_full).value + 1e-9
    assert error_full >= c.fano_error(h_full, classes=k).value - 1e-7
    drop = c.fano_accuracy_drop(h_full, h_text, classes=k).value
    assert error_text - error_full <= drop + 1e-7
    lost = information(p, [0], [2], given=[1])
    assert error_text - error_full <= c.risk_gap_from_information(max(lost, 0.0)).value + 1e-9
    if h_text >= h_full:
        assert c.vision_removal_cost(h_text, h_full).value == pytest.approx(lost, abs=1e-9)


def test_the_false_support_condition_is_not_used():
    # 4 points in two near pairs, X' uniform given X: 2 bits, not 1.81.
    found = c.information_gap_from_support(0.5, size=4, largest_ball=2, smallest_ball=2)
    assert found.value == pytest.approx(2 * math.log(2))
    beyond = c.information_gap_from_support(0.75, size=4, largest_ball=2, smallest_ball=2)
    assert beyond.value == pytest.approx(math.log(4))
    assert "above" in beyond.checked[0]


def test_xor_has_no_unique_vision_and_loses_everything():
    atoms = gate("xor").atoms()
    found = c.early_exit_loss_from_pid(atoms["unique_1"], atoms["synergistic"])
    assert found.value == pytest.approx(math.log(2))


def test_withdrawal_gap_says_when_text_falls():
    falls = c.withdrawal_gap_next(0.1, text_information=0.5, next_text_information=0.2)
    assert falls.value == pytest.approx(0.4)
    assert falls.checked == ("text information FALLS here",)


def test_late_entry_collisions():
    lost = c.late_entry_loss_from_collisions([[0], [1], [2], [3]], [[0.0], [0.0], [1.0], [2.0]])
    assert lost.value == pytest.approx(0.5 * math.log(2))
    with pytest.raises(ValueError, match="g is no function"):
        c.late_entry_loss_from_collisions([1, 1], [1, 2])


# --- Gaussian -------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(1, 3), SEEDS)
def test_gaussian_exit_loss_is_the_chain_rule(v, t, seed):
    system = gaussian_system((1, v, t), seed=seed)
    found = c.gaussian_exit_loss(system.covariance, n_vision=v).value
    assert found == pytest.approx(system.information("VT") - system.information("T"), abs=1e-9)


@given(SEEDS, st.integers(1, 4))
def test_gaussian_information_floor_is_below_the_truth(seed, d):
    rng = np.random.default_rng(seed)
    cross = rng.normal(size=(d, d))
    cross *= rng.uniform(0.1, 0.98) / np.linalg.norm(cross, 2)
    singular = np.linalg.svd(cross, compute_uv=False)
    truth = -0.5 * float(np.log1p(-(singular**2)).sum())
    assert c.gaussian_information_floor(cross).value <= truth + 1e-9


def test_gaussian_information_at_equal_correlation():
    exact = c.gaussian_information_from_correlation(0.6, d=5).value
    assert c.gaussian_information_floor(0.6 * np.eye(5)).value == pytest.approx(exact)


def test_refit_cost_is_what_least_squares_pays():
    rng = np.random.default_rng(0)
    n, dt, dv, runs = 30, 4, 5, 4000
    x = rng.normal(size=(runs, n, dt + dv))
    y = x[..., :dt].sum(axis=-1) + rng.normal(size=(runs, n))

    def risk(design):
        solved = np.linalg.solve(
            design.transpose(0, 2, 1) @ design, np.einsum("rni,rn->ri", design, y)[..., None]
        )[..., 0]
        solved[:, :dt] -= 1.0
        return float((solved**2).sum(axis=1).mean())

    extra = risk(x) - risk(x[..., :dt])
    expected = c.refit_cost(1.0, n=n, d_text=dt, d_vision=dv).value
    assert extra == pytest.approx(expected, rel=0.05)


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c.tail_from_mean(2.1, threshold=1), r"mean cosine distance must lie in \[0, 2\]"),
        (lambda: c.tail_from_mean(0.1, threshold=0), "threshold must be positive, got 0"),
        (lambda: c.mean_from_tail(1.1, threshold=1), r"tail must lie in \[0, 1\], got 1.1"),
        (lambda: c.functional_gap_from_cosine(0.1, lipschitz=-1), r"lipschitz must lie in"),
        (lambda: c.functional_gap_from_cosine(0.1, n_tokens=0), "n_tokens must be a whole number"),
        (lambda: c.functional_gap_from_cosine(math.nan), "got nan"),
        (lambda: c.functional_gap_from_tail(0.1, threshold=3), r"threshold must lie in \[0, 2\]"),
        (lambda: c.state_gap(0.0, 1.0, 0.1), "norm_before must be positive and finite, got 0.0"),
        (lambda: c.matrix_entropy_change(0.1, n=1), "n must be a whole number >= 2, got 1"),
        (lambda: c.margin_certificate([1], [1, 2], lipschitz=1), "1 update norms but 2 margins"),
        (lambda: c.margin_certificate([-1], [1], lipschitz=1), r"update_norms\[0\] is -1"),
        (lambda: c.telescoping_bound([1], [1, 1], {0}), "1 update norms but 2 Lipschitz"),
        (lambda: c.telescoping_bound([1], [1], {1}), "layer 1 is out of range; there are 1"),
        (lambda: c.kl_from_logit_change([]), "change must be a non-empty array of rank 1"),
        (lambda: c.kl_from_logit_change([math.inf]), r"change\[0\] is inf"),
        (lambda: c.removal_bound_from_var(1.0, diameter=1), r"var must lie in \[0, 1\), got 1.0"),
        (
            lambda: c.exit_bound_from_var([[0.5]], [[1.0, 2.0]], [[1.0]], [1.0]),
            "shapes do not match",
        ),
        (lambda: c.drop_bound_from_disagreement(1.5), r"disagreement must lie in \[0, 1\]"),
        (
            lambda: c.information_gap_from_support(0.1, size=4, largest_ball=1, smallest_ball=2),
            "smallest <= largest <= size, got 2, 1, 4",
        ),
        (lambda: c.risk_gap_from_information(-0.1), "information must lie in"),
        (lambda: c.vision_removal_cost(0.1, 0.2), "entropy_without must lie in"),
        (lambda: c.nll_change_from_kl(-0.1, 0.2), "kl_skipped must lie in"),
        (lambda: c.late_entry_loss_from_collisions([1], [1, 2]), "before has 1 rows, after 2"),
        (lambda: c.error_from_entropy(-0.1), "entropy must lie in"),
        (lambda: c.fano_error(2.0, classes=2), r"entropy must lie in \[0, 0.693147\], got 2.0"),
        (lambda: c.fano_error(0.1, classes=1), "classes must be a whole number >= 2"),
        (lambda: c.early_exit_loss_from_pid(-0.1, 0.1), "unique_vision must lie in"),
        (
            lambda: c.withdrawal_gap_next(0.1, text_information=0.1, next_text_information=1.0),
            "next_text_information must lie in",
        ),
        (lambda: c.usable_information_unsafety(-1, nll_full=0), "family_entropy must lie in"),
        (
            lambda: c.gaussian_information_from_correlation(1.0, d=1),
            "the information is infinite at -1 and 1",
        ),
        (lambda: c.gaussian_information_floor(np.eye(2)), "largest singular value must be below 1"),
        (lambda: c.gaussian_information_floor(np.ones((1, 2))), "must be square"),
        (
            lambda: c.gaussian_exit_loss(np.eye(2), n_vision=1),
            "has no text variables beside 1 of vision",
        ),
        (lambda: c.gaussian_exit_loss(-np.eye(3), n_vision=1), "must be positive definite"),
        (lambda: c.gaussian_exit_loss(np.ones((2, 3)), n_vision=1), "square and symmetric"),
        (lambda: c.refit_cost(1.0, n=5, d_text=2, d_vision=2), "n must be a whole number >= 6"),
        (lambda: Bound(quantity="q", value=math.nan, unit="1", statement="S1"), "is not a number"),
        (lambda: Bound(quantity="q", value=1, unit="bits", statement="S1"), "unknown unit 'bits'"),
        (
            lambda: Bound(quantity="q", kind="about", value=1, unit="1", statement="S1"),
            "unknown kind 'about'; choose from at most, at least, exactly",
        ),
    ],
)
def test_bad_numbers_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
