"""Three and more sources, and our BROJA inside dit."""

from __future__ import annotations

import json

import dit
import numpy as np
import pytest
from hypothesis import given, settings

from estimators import PIDLattice, pid_from_pmf, pid_lattice, unique_informations
from estimators.decomposition.dit_broja import PID_BROJA_EXACT
from estimators.decomposition.dit_measures import dit_distribution
from estimators.discrete._terms import mutual_information_of
from estimators.strategies import joint_pmfs

four = joint_pmfs([(1, 2)] * 3 + [(1, 3)])


@settings(max_examples=40)
@given(four)
def test_lattice_sums(p):
    lattice = pid_lattice(p)
    assert len(lattice.atoms) == 18
    assert sum(lattice.atoms.values()) == pytest.approx(lattice.total, abs=1e-10)
    assert lattice.total == pytest.approx(
        mutual_information_of(p.reshape(-1, p.shape[3])), abs=1e-10
    )
    # I_min promises atoms that are not negative.
    assert min(lattice.atoms.values()) >= -1e-10
    for i in range(3):
        pair = p.sum(tuple(j for j in range(3) if j != i))
        assert lattice.redundancies[f"{{{i + 1}}}"] == pytest.approx(
            mutual_information_of(pair), abs=1e-10
        )


@settings(max_examples=25)
@given(joint_pmfs(3))
def test_a_constant_third_source_leaves_the_two(p):
    lattice, two = pid_lattice(p[:, :, None]), pid_from_pmf(p, measure="imin")
    # The constant source has no information: every node with {3} is empty.
    assert lattice.redundancies["{1}{2}"] == pytest.approx(two.redundant, abs=1e-10)
    assert lattice.redundancies["{1}{2}{3}"] == pytest.approx(0.0, abs=1e-10)
    assert lattice.atoms["{12}"] == pytest.approx(0.0, abs=1e-9 + two.synergistic)


def test_lattice_against_dit():
    p = np.random.default_rng(0).dirichlet(np.ones(16)).reshape(2, 2, 2, 2)
    ours, theirs = pid_lattice(p, unit="bits"), dit.pid.PID_WB(dit_distribution(p))
    for name, value in ours.atoms.items():
        node = tuple(tuple(int(i) - 1 for i in group) for group in name.strip("{}").split("}{"))
        assert value == pytest.approx(float(theirs.get_pi(node)), abs=1e-9)


def test_lattice_round_trip():
    lattice = pid_lattice(np.full((2, 2, 2, 2), 1 / 16))
    assert PIDLattice.from_json(json.loads(json.dumps(lattice.to_json()))) == lattice


@settings(max_examples=25)
@given(joint_pmfs(3))
def test_unique_informations_of_two_are_those_of_the_pid(p):
    found = pid_from_pmf(p)
    assert unique_informations(p) == pytest.approx((found.unique_1, found.unique_2), abs=2e-11)


def test_unique_informations_of_four_sources():
    p = np.zeros((2, 2, 2, 2, 4))
    for x in np.ndindex(2, 2, 2, 2):
        p[(*x, 2 * x[1] + (x[0] ^ x[2]))] = 1 / 16
    # The second source alone knows one bit; the other bit needs two sources.
    assert unique_informations(p, unit="bits") == pytest.approx((0.0, 1.0, 0.0, 0.0), abs=1e-9)


GATE = np.full((2, 2, 2, 2), 1 / 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pid_lattice(GATE, measure="broja"), "three sources are decomposed by 'imin' only"),
        (lambda: pid_lattice(GATE[0] * 2), "two sources are decomposed by pid_from_pmf"),
        (lambda: pid_lattice(GATE[None]), "the lattice is offered for three sources"),
        (lambda: pid_lattice(2 * GATE), "p must sum to one"),
        (lambda: unique_informations(np.full((2, 2), 0.25)), "need two sources or more"),
        (lambda: unique_informations(GATE, unit="hartley"), "unknown unit"),
    ],
)
def test_the_rest_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_dit_class_is_right_where_the_default_is_wrong():
    p = np.random.default_rng(2).dirichlet(np.ones(27)).reshape(3, 3, 3)
    pid = PID_BROJA_EXACT(dit_distribution(p))
    ours = pid_from_pmf(p, unit="bits")
    keys = (((0,), (1,)), ((0,),), ((1,),), ((0, 1),))
    found = [float(pid.get_pi(key)) for key in keys]
    np.testing.assert_allclose(found, list(ours.atoms.values()), atol=1e-9)
    assert pid.complete
    assert "I_broja" in pid.to_string()


def test_dit_class_takes_sources_target_and_logarithms():
    d = dit.pid.distributions.bivariates["reduced or"]
    turned = PID_BROJA_EXACT(d, [[0], [2]], [1])
    p = np.zeros((2, 2, 2))
    for outcome in d.outcomes:
        p[tuple(int(symbol) for symbol in outcome)] = d[outcome]
    ours = pid_from_pmf(p.swapaxes(1, 2), unit="bits")
    assert float(turned.get_pi(((0,),))) == pytest.approx(ours.unique_1, abs=1e-9)
    logarithmic = d.copy(base=2)
    assert float(PID_BROJA_EXACT(logarithmic).get_pi(((0, 1),))) == pytest.approx(
        0.688722, abs=1e-6
    )


def test_dit_class_with_three_sources():
    d = dit.pid.distributions.trivariates["sum"]
    pid = PID_BROJA_EXACT(d)
    assert float(pid.get_pi(((0,),))) == pytest.approx(0.0, abs=1e-9)
