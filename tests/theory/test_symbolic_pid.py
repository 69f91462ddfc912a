"""Symbolic PID: closed forms against an interior-point solver, known gates and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from estimators import pid_from_pmf
from tests.theory.convex_broja import union_information
from theory.pmf import as_pmf, information
from theory.symbolic_pid import (
    broja_binary,
    broja_ordered,
    gaussian_pid,
    lattice_pid,
    symbolic_pid,
    symbolic_pmf,
    xlogx,
)
from theory.systems import gate, random_triple, scalar_gaussian
from theory.systems.gates import imin_redundancy

SYMBOLS = sp.symbols("p0:7", positive=True)
GENERAL = symbolic_pmf(np.array([*SYMBOLS, 1 - sum(SYMBOLS)], dtype=object).reshape(2, 2, 2))
GENERAL_BROJA = broja_binary(GENERAL)
BROJA = GENERAL_BROJA.lambdify()

WEIGHTS = st.lists(st.sampled_from([0, 0, 1, 1, 2, 5, 30, 1000]), min_size=8, max_size=8)


def binary(weights):
    assume(sum(weights) > 0)
    return as_pmf(np.array(weights, dtype=float).reshape(2, 2, 2))


def numeric(p):
    return BROJA(*p.ravel()[:7])


@given(WEIGHTS)
@settings(max_examples=80)
def test_binary_broja_is_the_convex_optimum_to_1e_9(weights):
    p = binary(weights)
    first, second, both = (information(p, s, [2]) for s in ([0], [1], [0, 1]))
    union = union_information(p)
    expected = [first + second - union, union - second, union - first, both - union]
    np.testing.assert_allclose(numeric(p), expected, atol=1e-9)


@given(WEIGHTS)
@settings(max_examples=60)
def test_binary_broja_is_what_the_numerical_solver_certifies(weights):
    p = binary(weights)
    np.testing.assert_allclose(numeric(p), list(pid_from_pmf(p).atoms.values()), atol=1e-9)


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 1.0, 10.0]))
@settings(max_examples=50)
def test_binary_broja_on_real_valued_pmfs(seed, concentration):
    p = as_pmf(np.random.default_rng(seed).dirichlet(np.full(8, concentration)).reshape(2, 2, 2))
    r, u1, u2, _ = numeric(p)
    assert r + u1 + u2 == pytest.approx(union_information(p), abs=1e-9)


@given(WEIGHTS)
def test_binary_broja_is_consistent_and_symmetric(weights):
    p = binary(weights)
    r, u1, u2, s = numeric(p)
    assert min(r, u1, u2, s) >= -1e-9
    first, second, both = (information(p, x, [2]) for x in ([0], [1], [0, 1]))
    np.testing.assert_allclose([r + u1, r + u2, r + u1 + u2 + s], [first, second, both], atol=1e-9)
    for axes, order in (((1, 0, 2), [0, 2, 1, 3]), ((0, 1, 2), [0, 1, 2, 3])):
        other = p.transpose(axes)[::-1, :, ::-1]
        np.testing.assert_allclose(numeric(other), np.array([r, u1, u2, s])[order], atol=1e-9)


@given(st.integers(0, 10_000), st.sampled_from(["none", "first", "second", "both"]))
@settings(max_examples=60)
def test_sources_that_say_nothing_up_to_rounding(seed, informative):
    rng = np.random.default_rng(seed)
    y = rng.dirichlet([1, 1])
    first, second = rng.dirichlet([1, 1], 2), rng.dirichlet([1, 1], 2)  # [y, x]
    if informative not in ("first", "both"):
        first[1] = first[0]
    if informative not in ("second", "both"):
        second[1] = second[0]
    p = np.einsum("y,ya,yb->aby", y, first, second)
    r, u1, u2, _ = numeric(p)
    assert r + u1 + u2 == pytest.approx(union_information(p), abs=1e-9)


def test_both_sources_can_hold_unique_information():
    found = [
        numeric(as_pmf(np.random.default_rng(i).dirichlet(np.ones(8)).reshape(2, 2, 2)))
        for i in range(40)
    ]
    assert any(min(u1, u2) > 1e-3 for _, u1, u2, _ in found)


@pytest.mark.parametrize(
    "name", ["and", "or", "xor", "redundant", "reduced_or", "imperfect_redundancy"]
)
def test_binary_gates(name):
    expected = list(gate(name).atoms("broja").values())
    np.testing.assert_allclose(numeric(gate(name).p), expected, atol=1e-9)


def test_lambdify_takes_arrays():
    rng = np.random.default_rng(0)
    cells = rng.dirichlet(np.ones(8), size=(3, 5))
    table = BROJA(*np.moveaxis(cells, -1, 0)[:7])
    assert table.shape == (4, 3, 5)
    np.testing.assert_allclose(table[:, 2, 4], BROJA(*cells[2, 4, :7]), atol=1e-12)
    with pytest.raises(ValueError, match=r"one value for each of \(p0, .*\), got 2"):
        BROJA(0.1, 0.2)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
@settings(max_examples=12)
def test_a_garbling_has_no_unique_information(a, b, c):
    first = np.array([[a / 2, (1 - a) / 2], [(1 - b) / 2, b / 2]])
    channel = np.array([[c, 1 - c], [0.5, 0.5]])
    p = first[:, None, :] * channel[:, :, None]
    found = ERASURE(a, b, c)
    u = union_information(p)
    assert found[0] + found[1] + found[2] == pytest.approx(u, abs=1e-9)
    np.testing.assert_allclose(found, numeric(p), atol=1e-9)
    assert found[2] == 0


def _erasure():
    e, f, g = sp.symbols("e f g", positive=True)
    half = sp.Rational(1, 2)
    first = [[e / 2, (1 - e) / 2], [(1 - f) / 2, f / 2]]
    channel = [[g, 1 - g], [half, half]]
    cells = [[[first[i][y] * channel[i][j] for y in (0, 1)] for j in (0, 1)] for i in (0, 1)]
    return broja_ordered(symbolic_pmf(cells))


ERASURE = _erasure().lambdify()


def test_a_given_channel_is_checked_and_used():
    e = sp.Symbol("e", positive=True)
    half = sp.Rational(1, 2)
    # Given y the sources are independent: p(x2 | x1) is no garbling, yet there is one.
    cells = {(y, x, y): half * (1 - e if x == y else e) for y in (0, 1) for x in (0, 1)}
    p = symbolic_pmf(cells)
    found = symbolic_pid(p, channel=[[1 - e, e], [e, 1 - e]])
    assert found.unique_2 == 0
    assert found.assumed == ("the channel's entries are nonnegative at the values used",)
    with pytest.raises(ValueError, match="the channel given does not turn the first source"):
        symbolic_pid(p, channel=[[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"channel\[0, 0\] is -1, which is negative"):
        symbolic_pid(p, channel=[[-1, 2], [0, 1]])
    with pytest.raises(ValueError, match=r"must have shape \(2, 2\), got \(1, 1\)"):
        symbolic_pid(p, channel=[[1]])


def test_the_sources_may_come_in_either_order():
    e = sp.Symbol("e", positive=True)
    half = sp.Rational(1, 2)
    p = symbolic_pmf({(0, 0, 0): half, (0, 1, 1): e / 2, (1, 1, 1): (1 - e) / 2})
    found = symbolic_pid(p)
    assert found.unique_1 == 0
    atoms = found.lambdify()(0.3)
    assert atoms[2] > 0.1
    q = np.zeros((2, 2, 2))
    q[0, 0, 0], q[0, 1, 1], q[1, 1, 1] = 0.5, 0.15, 0.35
    np.testing.assert_allclose(atoms, numeric(q), atol=1e-9)


@pytest.mark.parametrize("measure", ["mmi", "imin"])
@given(seed=st.integers(0, 1000))
@settings(max_examples=8)
def test_mmi_and_imin_of_random_pmfs_match_numbers(measure, seed):
    one = random_triple((2, 2, 2), seed=seed)
    p = one.p
    assume((p > 1e-9).all())
    found = LATTICE[measure](*p.ravel()[:7])
    np.testing.assert_allclose(found, list(one.atoms(measure).values()), atol=1e-9)


LATTICE = {m: lattice_pid(GENERAL, measure=m).lambdify() for m in ("mmi", "imin")}


def test_imin_of_a_larger_alphabet():
    a = sp.Symbol("a", positive=True)
    cells = {(0, 0, 0): a / 2, (0, 1, 1): a / 2, (1, 0, 2): (1 - a) / 2, (1, 1, 3): (1 - a) / 2}
    found = symbolic_pid(symbolic_pmf(cells), measure="imin").lambdify()(0.3)
    p = np.zeros((2, 2, 4))
    for where, weight in zip(cells, [0.15, 0.15, 0.35, 0.35], strict=True):
        p[where] = weight
    assert found[0] == pytest.approx(imin_redundancy(p), abs=1e-9)


GAUSSIAN = gaussian_pid(*sp.symbols("x y z", real=True)).lambdify()


@given(st.floats(-0.95, 0.95), st.floats(-0.95, 0.95), st.floats(-0.95, 0.95))
def test_gaussian_atoms_equal_the_numeric_system(a, b, c):
    assume(1 - a * a - b * b - c * c + 2 * a * b * c > 1e-3)
    found = GAUSSIAN(a, b, c)
    expected = list(scalar_gaussian(a, b, c).atoms().values())
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_skip_condition_of_a_gaussian_is_a_zero_partial_covariance():
    a, c = sp.symbols("a c", positive=True)
    found = gaussian_pid(a * c, a, c)  # vision reaches the target through text only
    lost = sp.simplify(found.unique_1 + found.synergistic)
    at = {a: sp.Rational(1, 2), c: sp.Rational(1, 3)}
    assert sp.simplify(lost.subs(at)) == 0


def test_dit_refuses_symbolic_broja_where_this_does_not():
    from dit.pid import PID_BROJA
    from dit.symbolic import symbolic_distribution

    a = sp.Symbol("a", positive=True)
    cells = {"000": (1 - a) / 2, "010": (1 - a) / 2, "100": a / 2, "111": a / 2}
    with pytest.raises(TypeError):
        PID_BROJA(symbolic_distribution(list(cells), list(cells.values())), [[0], [1]], [2])
    ours = symbolic_pid(symbolic_pmf({tuple(map(int, k)): v for k, v in cells.items()}))
    p = np.zeros((2, 2, 2))
    p[0, 0, 0] = p[0, 1, 0] = 0.4
    p[1, 0, 0] = p[1, 1, 1] = 0.1
    r, u1, u2, _ = ours.lambdify()(0.2)
    assert r + u1 + u2 == pytest.approx(union_information(p), abs=1e-9)


def test_xlogx():
    x = sp.Symbol("x", positive=True)
    assert xlogx(x).rewrite(sp.log) == x * sp.log(x)
    assert sp.diff(xlogx(x), x) == sp.log(x) + 1
    assert float(xlogx(sp.Rational(1, 4))) == pytest.approx(0.25 * math.log(0.25))
    assert xlogx(x).subs(x, 0) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: symbolic_pmf([[0.5, 0.5]]), r"three axes, got shape \(1, 2\)"),
        (lambda: symbolic_pmf([[[sp.Symbol("a"), 0.5]]]), "the cells sum to a \\+ 0.5"),
        (lambda: symbolic_pmf([[[-1, 2]]]), r"p\[0, 0, 0\] is -1, which is negative"),
        (lambda: symbolic_pid(GENERAL, measure="ccs"), "unknown measure 'ccs'; choose from broja"),
        (
            lambda: symbolic_pid(GENERAL, measure="mmi", channel=[[1]]),
            "a channel applies to broja only",
        ),
        (lambda: lattice_pid(GENERAL, measure="broja"), "choose from mmi, imin"),
        (lambda: broja_binary(symbolic_pmf([[[1]]])), r"needs shape \(2, 2, 2\), got \(1, 1, 1\)"),
        (lambda: gaussian_pid(0.9, -0.9, 0.9), "no three variables have correlations"),
        (
            lambda: broja_binary(GENERAL, parameters=SYMBOLS[:3]),
            "the order of parameters lacks p3, p4",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_error_is_not_taken_for_a_missing_order():
    """Wrong parameters are named, not hidden behind the next closed form that is tried."""
    e = sp.Symbol("e", positive=True)
    p = symbolic_pmf({(0, 0, 0): 1 - e, (1, 1, 2): e})
    with pytest.raises(ValueError, match="parameters"):
        symbolic_pid(p, parameters=[sp.Symbol("other")])


def test_broja_without_a_closed_form_is_refused():
    a = sp.Symbol("a", positive=True)
    third = sp.Rational(1, 3)
    cells = {(0, 0, 0): a / 3, (0, 1, 0): (1 - a) / 3, (1, 2, 1): third, (2, 0, 2): third}
    cells = {**cells, (1, 2, 1): third / 2, (1, 0, 1): third / 2}
    with pytest.raises(ValueError, match=r"no closed form of broja is known for shape \(3, 3, 3\)"):
        symbolic_pid(symbolic_pmf({**cells, (2, 0, 2): third / 2, (0, 2, 2): third / 2}))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({(10**9, 0, 0): 1}, r"at most 4,096 cells, 256 of them not zero; got 1000000001 x 1 x 1"),
        ({(0, 0, y): sp.Rational(1, 300) for y in range(300)}, "got 1 x 1 x 300, 300 not zero"),
        (np.full((2, 8, 20), sp.Rational(1, 320)), "got 2 x 8 x 20, 320 not zero"),
        ({}, "at least one"),
        ({(0, 0): 1}, r"\{\(x1, x2, y\): probability\}"),
        ({(-1, 0, 0): 1}, r"symbols count from 0, got \(-1, 0, 0\)"),
    ],
)
def test_a_pmf_too_large_to_simplify_is_refused_at_once(cells, message):
    with pytest.raises(ValueError, match=message):
        symbolic_pmf(cells)
