"""Systems with known truth: gates, Gaussians, attention heads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.convex_broja import union_information
from theory.pmf import information
from theory.systems import (
    BIJECTIONS,
    GATES,
    GaussianSystem,
    attention_head,
    degraded_triple,
    gate,
    gaussian_system,
    random_triple,
    scalar_gaussian,
)

SEEDS = st.integers(0, 10_000)

#: Atoms in bits as published (rounded to six digits), in the order of `ATOMS`.
PUBLISHED = {
    ("and", "broja"): (0.311278, 0, 0, 0.5),
    ("or", "imin"): (0.311278, 0, 0, 0.5),
    ("sum", "broja"): (0.5, 0, 0, 1),
    ("rdn_xor", "broja"): (1, 0, 0, 1),
    ("rdn_unq_xor", "broja"): (1, 1, 1, 1),
    ("rdn_unq_xor", "imin"): (2, 0, 0, 2),
    ("unique", "broja"): (0, 1, 1, 0),
    ("unique", "mmi"): (1, 0, 0, 1),
    ("imperfect_redundancy", "broja"): (0.98959, 0.01041, 0, 0),
    ("boom", "broja"): (1 / 3, 1 / 3, 1 / 3, 0.125815),
    ("boom", "imin"): (0.5, 1 / 6, 1 / 6, 0.292481),
    ("boom", "mmi"): (2 / 3, 0, 0, 0.459148),
    ("reduced_or", "broja"): (0.311278, 0, 0, 0.688722),
    ("pointwise_unique", "broja"): (0.5, 0, 0, 0.5),
    ("duplicate", "broja"): (0.5, 0, 0, 0),
    ("only_second", "broja"): (0, 0, 1, 0),
}


@pytest.mark.parametrize(("key", "atoms"), PUBLISHED.items(), ids=map(str, PUBLISHED))
def test_published_atoms(key, atoms):
    name, measure = key
    found = gate(name).atoms(measure, unit="bits")
    np.testing.assert_allclose(list(found.values()), atoms, atol=1.5e-6)


@pytest.mark.parametrize("name", GATES)
def test_atoms_obey_the_consistency_equations(name):
    one = gate(name)
    assert one.p.sum() == pytest.approx(1.0)
    first, second, both = one.informations()
    for measure in one.atoms_in_nats:
        r, u1, u2, s = one.atoms(measure).values()
        assert min(r, u1, u2, s) >= 0
        np.testing.assert_allclose(
            [r + u1, r + u2, r + u1 + u2 + s], [first, second, both], atol=1e-12
        )


@pytest.mark.parametrize("name", [g for g in GATES if gate(g).p.size <= 27])
def test_broja_atoms_of_gates_match_a_convex_program(name):
    one = gate(name)
    r, u1, u2, _ = one.atoms("broja").values()
    assert r + u1 + u2 == pytest.approx(union_information(one.p), abs=1e-8)


@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 3)), SEEDS)
@settings(max_examples=15)
def test_degraded_triples_match_a_convex_program(shape, seed):
    one = degraded_triple(shape, seed=seed)
    r, u1, u2, s = one.atoms("broja").values()
    assert u2 == 0
    assert s >= 0
    assert r + u1 == pytest.approx(union_information(one.p), abs=1e-8)


@given(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)), SEEDS)
def test_random_triples_know_imin_and_mmi(shape, seed):
    one = random_triple(shape, seed=seed)
    assert one.p.shape == shape
    r_imin, r_mmi = (one.atoms(m)["redundant"] for m in ("imin", "mmi"))
    assert r_imin <= r_mmi + 1e-12
    with pytest.raises(ValueError, match="no exact broja atoms of 'random'; there are imin, mmi"):
        one.atoms("broja")


@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), SEEDS)
def test_gaussian_chain_rule_and_monotony(dims, seed):
    one = gaussian_system(dims, seed=seed)
    v, t, both = (one.information(s) for s in ("V", "T", "VT"))
    assert both >= max(v, t) - 1e-10
    assert min(v, t) >= -1e-10
    assert one.information("VT", unit="bits") == pytest.approx(both / math.log(2))


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_scalar_gaussian_closed_forms(yv, yt):
    one = scalar_gaussian(yv, yt, yv * yt)  # V and T independent given Y
    assert one.information("V") == pytest.approx(-0.5 * math.log1p(-(yv**2)))
    atoms = one.atoms()
    assert atoms["redundant"] == pytest.approx(-0.5 * math.log1p(-min(yv**2, yt**2)))
    assert min(atoms.values()) >= -1e-12


def test_gaussian_samples_have_the_covariance_and_bijections_are_undone():
    system = gaussian_system((1, 2, 1), seed=3)
    plain = np.hstack(system.sample(200_000, seed=0))
    np.testing.assert_allclose(np.cov(plain.T), system.covariance, atol=0.02)
    inverse = {
        "identity": lambda x: x,
        "cube": np.cbrt,
        "exp": np.log,
        "sinh": np.arcsinh,
        "half-cube": lambda x: np.sign(x) * (np.sqrt(1 + 4 * np.abs(x)) - 1) / 2,
    }
    assert set(inverse) == set(BIJECTIONS)
    for name, undo in inverse.items():
        seen = np.hstack(system.image(name).sample(500, seed=0))
        again = np.hstack(system.image("identity").sample(500, seed=0))
        np.testing.assert_allclose(undo(seen), again, atol=1e-6)


@given(
    st.floats(0.01, 0.99),
    st.sampled_from(["equal", "split", "random"]),
    st.integers(1, 8),
    st.integers(1, 8),
    SEEDS,
)
def test_attention_heads_have_the_mass_and_change_they_claim(var, geometry, nv, nt, seed):
    head = attention_head(var, geometry=geometry, n_vision=nv, n_text=nt, seed=seed)
    assert head.weights()[:nv].sum() == pytest.approx(var)
    change = float(np.linalg.norm(head.output(vision=False) - head.output()))
    assert change == pytest.approx(head.change, abs=1e-9)
    assert change <= var * head.diameter + 1e-9
    if geometry == "split":
        assert head.diameter == pytest.approx(1.0)
        assert head.change == pytest.approx(var)
    if geometry == "equal":
        assert head.change == 0


def test_imin_of_the_unique_gate_is_one_bit_by_hand():
    assert information(gate("unique").p, [0], [2]) == pytest.approx(math.log(2))
    assert gate("unique").atoms("imin", unit="bits")["redundant"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gate("nor"), "no gate 'nor'; there are redundant"),
        (lambda: gate("and").atoms("ccs"), "no exact ccs atoms of 'and'; there are broja"),
        (lambda: gate("and").atoms(unit="hart"), "unknown unit 'hart'; choose from nats, bits"),
        (lambda: gate("and").informations(unit="hart"), "unknown unit 'hart'"),
        (lambda: random_triple((0, 1, 1), seed=0), "every alphabet needs a symbol"),
        (lambda: degraded_triple((1, 1, 0), seed=0), "every alphabet needs a symbol"),
        (lambda: gaussian_system((0, 1, 1), seed=0), "every dimension must be at least 1"),
        (lambda: GaussianSystem(np.eye(2), (1, 1, 1)), r"shape \(2, 2\) does not match"),
        (lambda: scalar_gaussian(0.9, -0.9, 0.9), "symmetric and positive definite"),
        (lambda: scalar_gaussian(0, 0, 0).image("log"), "unknown bijection 'log'"),
        (lambda: scalar_gaussian(0, 0, 0).information("Y"), "unknown sources 'Y'"),
        (lambda: scalar_gaussian(0, 0, 0).information(unit="hart"), "unknown unit 'hart'"),
        (lambda: scalar_gaussian(0, 0, 0).sample(0, seed=0), "n must be at least 1, got 0"),
        (lambda: gaussian_system((2, 1, 1), seed=0).atoms(), "needs a scalar target"),
        (lambda: attention_head(1.0, seed=0), "var must lie strictly between 0 and 1, got 1.0"),
        (lambda: attention_head(0.5, geometry="round", seed=0), "unknown geometry 'round'"),
        (lambda: attention_head(0.5, n_text=0, seed=0), "keys of both kinds"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
