"""The verifier: what it accepts, and that it rejects whatever is wrong with a statement."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from theory.adversary import minimise, shrink
from theory.formula import Formula
from theory.statement import (
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
    Verdict,
)
from theory.verifier import verify_statement

#: x^3 >= 0 for x >= 0.
CUBE = Statement(
    id="X1",
    title="cubes",
    setting="x real",
    claim="x^3 >= 0",
    source="school",
    evidence="searched",
    domain="x in [0, 2]",
    generate=lambda rng: float(rng.uniform(0, 2)),
    slack=lambda x: x**3,
    witness=lambda: 0.0,
    hypotheses=(
        Hypothesis(
            "nonnegative",
            "x >= 0",
            holds=lambda x: x >= 0,
            counterexample=lambda: Counterexample(-1.0, "at -1 the cube is -1"),
        ),
    ),
    search=Search(1, lambda v: abs(float(v[0]))),
)


def test_a_true_statement():
    verdict = verify_statement(CUBE, trials=100)
    assert verdict.holds
    assert verdict.complete
    assert verdict.trials == 100
    assert 0 <= verdict.worst_slack < 1e-6  # the optimiser gets there
    assert verdict.hypotheses[0].slack == -1.0
    assert verdict.failures == ()


def failures(**changes: object) -> str:
    verdict = verify_statement(replace(CUBE, **changes), trials=100)
    assert not verdict.holds
    assert not verdict.complete
    return "\n".join(verdict.failures)


def test_a_drawn_violation():
    assert "violated by a drawn instance" in failures(slack=lambda x: x - 1.9, search=None)


def test_a_searched_violation_is_shrunk():
    narrow = {"slack": lambda x: abs(x - 5.25) - 0.3, "witness": lambda: 5.55}
    text = failures(**narrow, search=Search(1, lambda v: abs(float(v[0]))))
    assert "violated by a searched instance" in text
    assert text.endswith("shrunk, with slack -0.05: 5.0")


def test_not_a_number_is_a_violation():
    undefined = {"slack": lambda x: float("nan") if x > 1 else x}
    assert "violated by a drawn instance" in failures(**undefined, search=None)
    assert "violated by a searched instance" in failures(**undefined)


def test_a_witness_that_is_not_tight():
    assert "the witness has slack 8, not <= 1e-09" in failures(witness=lambda: 2.0)


def test_a_witness_that_breaks_the_claim():
    text = failures(witness=lambda: -1.0)
    assert "the claim fails on its witness, slack -1" in text
    assert "the witness does not meet: nonnegative" in text


def test_instances_outside_the_hypotheses():
    even = replace(CUBE, slack=lambda x: x * x, generate=lambda rng: float(rng.normal()))
    verdict = verify_statement(even, trials=50)
    assert verdict.failures == ("drawn instances do not meet: nonnegative",)
    lost = replace(CUBE, slack=lambda x: x * x, search=Search(1, lambda v: -abs(float(v[0])) - 1))
    assert "searched instances do not meet: nonnegative" in verify_statement(lost).failures


def test_a_proof_that_fails():
    assert "the proof does not go through: gap" in failures(
        evidence="symbolic",
        formulas={"cube": Formula(sp.Symbol("x"), "<=", sp.Symbol("y"))},
        proof=lambda claim: ProofCheck(len(claim) != 1, "gap"),
    )


@pytest.mark.parametrize("x", [0.0, 1.0, -0.0])
def test_a_counterexample_that_is_none(x):
    hypothesis = replace(CUBE.hypotheses[0], counterexample=lambda: Counterexample(x, "wrong"))
    verdict = verify_statement(replace(CUBE, hypotheses=(hypothesis,)), trials=20)
    assert verdict.holds
    assert not verdict.complete
    assert not verdict.hypotheses[0].counterexample_found


def test_a_counterexample_may_break_only_its_own_hypothesis():
    small = Hypothesis(
        "above -1/2", "x > -1/2", lambda x: x > -0.5, lambda: Counterexample(-1.0, "both")
    )
    verdict = verify_statement(replace(CUBE, hypotheses=(*CUBE.hypotheses, small)), trials=20)
    assert [found.counterexample_found for found in verdict.hypotheses] == [False, False]


def test_statements_draw_from_streams_of_their_own():
    drawn = replace(CUBE, search=None)
    other = replace(drawn, id="X2")
    worst = [verify_statement(s, trials=9).worst_slack for s in (drawn, other)]
    assert worst[0] != worst[1]


def test_the_seed_fixes_the_instances():
    first, again, other = (verify_statement(CUBE, trials=9, seed=s).worst_slack for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("trials", [0, -1])
def test_trials_must_be_positive(trials):
    with pytest.raises(ValueError, match=f"^trials must be at least 1, got {trials}$"):
        verify_statement(CUBE, trials=trials)


@pytest.mark.parametrize("wrong", ["S99", "S9", 3, None])
def test_what_is_no_statement_is_refused_in_one_line(wrong):
    with pytest.raises(TypeError, match=r"^statement must be a Statement, got .*statements.verify"):
        verify_statement(wrong)


def test_statements_are_validated():
    with pytest.raises(ValueError, match=r"^X1: unknown evidence 'certain'; choose from symbolic"):
        replace(CUBE, evidence="certain")
    with pytest.raises(ValueError, match=r"^X1: evidence 'exhaustive' needs a proof to run$"):
        replace(CUBE, evidence="exhaustive")
    with pytest.raises(ValueError, match=r"^X1: the proof has no formulas to prove$"):
        replace(CUBE, evidence="symbolic", proof=lambda claim: ProofCheck(True, ""))
    with pytest.raises(ValueError, match=r"^X1: hypotheses share a name: nonnegative, "):
        replace(CUBE, hypotheses=CUBE.hypotheses * 2)


def test_a_verdict_survives_json():
    verdict = verify_statement(replace(CUBE, slack=lambda x: float("-inf")), trials=4)
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert Verdict.from_json(json.loads(text)) == verdict
    with pytest.raises(ValueError, match="X1: holds=True contradicts failures"):
        replace(verdict, holds=True)
    with pytest.raises(ValueError, match="Verdict version 1 lacks trials"):
        Verdict.from_json({k: v for k, v in verdict.to_json().items() if k != "trials"})


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_minimise_finds_a_quadratic_minimum(seed, dimension):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=dimension)
    used = 0

    def objective(vector):
        nonlocal used
        used += 1
        return float(np.sum((vector - centre) ** 2)) - 1.0

    best, value = minimise(objective, dimension, 600, rng)
    assert value == objective(best)
    assert value < -1.0 + 0.05
    assert used <= 600 + 3 * dimension + 4


def test_shrink_keeps_what_breaks():
    vector = np.array([0.123456, 3.14159, -7.5])
    found = shrink(vector, lambda v: v[1] > 3.05)
    assert found.tolist() == [0.0, 3.1, 0.0]
    assert shrink(vector, lambda v: False) is vector
