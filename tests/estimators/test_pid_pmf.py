"""`pid_from_pmf`: gates, the properties of a decomposition, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import PID, pid_from_pmf, pid_from_pmf_batch
from estimators.decomposition.ccs import maximum_entropy_joint
from estimators.decomposition.pmf import MEASURES
from estimators.decomposition.result import ATOMS
from estimators.discrete._terms import co_information_terms, exact_value, mutual_information_of
from estimators.strategies import channels, joint_pmfs

GATES = json.loads((Path(__file__).parent / "data" / "pid_gates.json").read_text())["gates"]
PAIRWISE = ("broja", "imin", "mmi")  # redundancy depends on the pairwise marginals only

each_measure = pytest.mark.parametrize("measure", MEASURES)
each_pairwise = pytest.mark.parametrize("measure", PAIRWISE)
three = joint_pmfs(3)


def atoms(p: np.ndarray, measure: str, unit: str = "nats") -> np.ndarray:
    return np.array(list(pid_from_pmf(p, measure=measure, unit=unit).atoms.values()))


@each_measure
@pytest.mark.parametrize("gate", GATES)
def test_gates(gate, measure):
    found = atoms(GATES[gate]["p"], measure, "bits")
    np.testing.assert_allclose(found, GATES[gate]["atoms"][measure], atol=6e-7)


@each_measure
@settings(max_examples=40)
@given(three)
def test_sum_rules(measure, p):
    found = pid_from_pmf(p, measure=measure)
    assert found.information_1 == pytest.approx(mutual_information_of(p.sum(1)), abs=1e-10)
    assert found.information_2 == pytest.approx(mutual_information_of(p.sum(0)), abs=1e-10)
    total = mutual_information_of(p.reshape(-1, p.shape[2]))
    assert found.total == pytest.approx(total, abs=1e-10)
    assert found.co_information == pytest.approx(exact_value(p, co_information_terms(3)), abs=1e-10)
    assert found.measure == measure


@each_pairwise
@settings(max_examples=40)
@given(three)
def test_atoms_are_not_negative(measure, p):
    assert atoms(p, measure).min() >= (0.0 if measure == "broja" else -1e-12)


@each_measure
@settings(max_examples=30)
@given(three)
def test_exchanging_the_sources_exchanges_the_uniques(measure, p):
    found = atoms(p, measure)
    swapped = atoms(p.swapaxes(0, 1), measure)
    np.testing.assert_allclose(swapped, found[[0, 2, 1, 3]], atol=1e-10)


@each_measure
def test_sources_are_told_apart(measure):
    p = np.zeros((2, 3, 2))
    p[0, :, 0] = p[1, :, 1] = 1 / 6  # only the first source knows the target
    found = pid_from_pmf(p, measure=measure, unit="bits")
    assert found.unique_1 == pytest.approx(1.0)
    assert found.unique_2 == pytest.approx(0.0, abs=1e-9)


@each_measure
def test_the_target_is_not_exchangeable(measure):
    copy = np.asarray(GATES["unq2"]["p"])  # the target is both sources
    turned = np.moveaxis(copy, 2, 0)
    assert not np.allclose(atoms(copy, measure), atoms(turned, measure), atol=0.1)


@settings(max_examples=40)
@given(joint_pmfs(2), st.data())
def test_a_garbled_source_has_nothing_unique(pair, data):
    channel = data.draw(channels(pair.shape[0]))
    p = np.einsum("ys,yx->xys", pair, channel)  # x1 = channel(x2)
    assert pid_from_pmf(p).unique_1 <= 1e-10


@each_pairwise
@settings(max_examples=30)
@given(three)
def test_redundancy_depends_on_pairwise_marginals_only(measure, p):
    s = p.sum((0, 1))
    other = np.einsum("xs,ys->xys", p.sum(1), p.sum(0)) / np.where(s > 0.0, s, 1.0)
    assert pid_from_pmf(other, measure=measure).redundant == pytest.approx(
        pid_from_pmf(p, measure=measure).redundant, abs=1e-10
    )


def test_ccs_depends_on_more():
    p = np.asarray(GATES["sum"]["p"])
    other = np.einsum("xs,ys->xys", p.sum(1), p.sum(0)) / p.sum((0, 1))
    assert (
        abs(pid_from_pmf(p, measure="ccs").redundant - pid_from_pmf(other, measure="ccs").redundant)
        > 0.01
    )


@settings(max_examples=50)
@given(three)
def test_order_of_redundancies(p):
    broja, imin, mmi = (pid_from_pmf(p, measure=measure).redundant for measure in PAIRWISE)
    assert broja <= imin + 1e-10
    assert imin <= mmi + 1e-10


def product(p: np.ndarray, r: np.ndarray) -> np.ndarray:
    shape = [a * b for a, b in zip(p.shape, r.shape, strict=True)]
    return np.einsum("abc,xyz->axbycz", p, r).reshape(shape)


@settings(max_examples=25)
@given(joint_pmfs([(1, 2)] * 3), joint_pmfs([(1, 3)] * 3))
def test_broja_adds_over_independent_blocks(p, r):
    together = atoms(product(p, r), "broja")
    np.testing.assert_allclose(together, atoms(p, "broja") + atoms(r, "broja"), atol=1e-10)


def test_mmi_does_not_add_over_independent_blocks():
    one, two = (np.asarray(GATES[name]["p"]) for name in ("unq1", "unq1"))
    two = two.swapaxes(0, 1)
    together = pid_from_pmf(product(one, two), measure="mmi", unit="bits").redundant
    apart = pid_from_pmf(one, measure="mmi").redundant + pid_from_pmf(two, measure="mmi").redundant
    assert together - apart == pytest.approx(1.0)


@each_measure
@settings(max_examples=20)
@given(three, st.data())
def test_relabelling_and_unused_symbols_change_nothing(measure, p, data):
    relabelled = p
    for axis in range(3):
        order = data.draw(st.permutations(range(p.shape[axis])))
        relabelled = np.take(relabelled, order, axis)
    padded = np.pad(relabelled, [(1, 0), (0, 2), (1, 1)])
    np.testing.assert_allclose(atoms(padded, measure), atoms(p, measure), atol=1e-10)


@each_measure
def test_bits_and_nats(measure):
    p = np.asarray(GATES["boom"]["p"])
    in_bits = pid_from_pmf(p, measure=measure, unit="bits")
    assert in_bits.unit == "bits"
    np.testing.assert_allclose(
        atoms(p, measure), np.array(list(in_bits.atoms.values())) * math.log(2.0), atol=1e-11
    )


def test_broja_carries_its_certificate():
    found = pid_from_pmf(
        np.random.default_rng(0).dirichlet(np.ones(27)).reshape(3, 3, 3), unit="bits"
    )
    assert found.lower <= found.union <= found.upper
    assert found.gap == pytest.approx(found.upper - found.lower, abs=1e-15)
    assert 0.0 < found.gap <= 2e-11
    assert found.iterations > 0
    assert found.converged
    assert (found.method, found.n, found.reliable) == ("exact", None, True)
    assert PID.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    assert pid_from_pmf(np.full((2, 2, 2), 0.125), measure="imin").gap is None


def test_an_unsolved_pid_is_not_reliable(monkeypatch):
    monkeypatch.setattr("estimators.decomposition.broja._LARGEST_STEP", 1e-9)
    found = pid_from_pmf(np.random.default_rng(0).dirichlet(np.ones(8)).reshape(2, 2, 2))
    assert not found.converged
    assert not found.reliable
    assert "certified gap" in found.reason


@each_measure
def test_batch_is_one_by_one(measure):
    p = np.random.default_rng(1).dirichlet(np.ones(12), 4).reshape(4, 2, 3, 2)
    for each, found in zip(p, pid_from_pmf_batch(p, measure=measure, unit="bits"), strict=True):
        np.testing.assert_allclose(
            list(found.atoms.values()), atoms(each, measure, "bits"), atol=2e-11
        )


@settings(max_examples=40)
@given(three)
def test_maximum_entropy_joint(p):
    q = maximum_entropy_joint(p)
    for axis in range(3):
        np.testing.assert_allclose(q.sum(axis), p.sum(axis), atol=1e-12)
    entropy = -(q * np.log(np.where(q > 0.0, q, 1.0))).sum()
    assert entropy >= -(p * np.log(np.where(p > 0.0, p, 1.0))).sum() - 1e-10


def test_a_measure_of_dit_by_its_name():
    found = pid_from_pmf(GATES["and"]["p"], measure="proj", unit="bits")
    assert found.measure == "proj"
    assert found.method.startswith("dit ")
    assert found.total == pytest.approx(0.811278, abs=1e-5)
    assert found.unique_1 == pytest.approx(0.0, abs=1e-4)


def test_a_measure_of_dit_that_lacks_its_package(monkeypatch):
    def lacking(_):
        raise ImportError("No module named 'polyhedra'")

    monkeypatch.setattr("dit.pid.PID_Prec", lacking)
    with pytest.raises(ValueError, match="'prec' needs a package: No module named 'polyhedra'"):
        pid_from_pmf(GATES["and"]["p"], measure="prec")


# --- what is refused ------------------------------------------------------------------------

GOOD = np.full((2, 2, 2), 0.125)


def changed(value: float) -> np.ndarray:
    p = GOOD.copy()
    p[1, 0, 1] = value
    return p


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (changed(-0.125), r"p\[1, 0, 1\] = -0.125 is negative"),
        (changed(math.nan), r"p\[1, 0, 1\] = nan is not finite"),
        (changed(math.inf), r"p\[1, 0, 1\] = inf is not finite"),
        (changed(0.25), r"p must sum to one, its sum is 1.125"),
        (np.full((4, 4), 1 / 16), r"p must have 3 axes p\[x1, x2, y\], got shape \(4, 4\)"),
        (GOOD[None], r"p must have 3 axes p\[x1, x2, y\], got shape \(1, 2, 2, 2\)"),
        (np.zeros((2, 0, 2)), r"p is empty, shape \(2, 0, 2\)"),
        (np.ones((2, 2, 2), dtype=int), r"counts go to pid_from_counts\(counts\)"),
        (np.full((2, 2, 2), 3.0), r"counts go to pid_from_counts\(counts\)"),
        (np.full((2, 2, 2), "a"), r"p must be real numbers, got dtype <U1"),
    ],
)
def test_bad_pmfs(p, message):
    with pytest.raises(ValueError, match=message):
        pid_from_pmf(p)


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown measure 'brojo'; choose from broja, imin, mmi"):
        pid_from_pmf(GOOD, measure="brojo")
    with pytest.raises(ValueError, match="unknown unit 'nat'; choose from nats, bits"):
        pid_from_pmf(GOOD, unit="nat")


def test_bad_batches():
    with pytest.raises(ValueError, match=r"a batch has 4 axes p\[b, x1, x2, y\]"):
        pid_from_pmf_batch(GOOD)
    with pytest.raises(ValueError, match=r"p\[1\] must sum to one"):
        pid_from_pmf_batch(np.stack([GOOD, 0.5 * GOOD]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unit": "hartley"}, "unknown unit 'hartley'"),
        ({"n": 0}, "n counts samples from 1, got 0"),
        ({"intervals": {"redundant": (0, 1)}}, "intervals need their level"),
        ({"intervals": {"red": (0, 1)}, "level": 0.9}, "unknown atom 'red'"),
        ({"intervals": {"redundant": (1, 0)}, "level": 0.9}, "in the wrong order"),
        ({"level": 1.5}, "level must lie strictly between 0 and 1"),
        ({"reliable": False}, "needs a reason"),
        ({"lower": 0.1}, "belong together"),
    ],
)
def test_pid_refuses_contradictions(fields, message):
    with pytest.raises(ValueError, match=message):
        PID(**{**dict.fromkeys(ATOMS, 0.0), "unit": "bits", "measure": "broja", **fields})
