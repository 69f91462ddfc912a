"""Proofs read the claim that they prove: a formula with one thing changed is not proved."""

from __future__ import annotations

import pytest

from tests.theory.altered_claims import altered
from theory import statements

PROVED = [name for name in statements.ids() if statements.get(name).proof is not None]
#: Statements whose proofs take long to fail: the fast tests change the left sides and the sign.
LONG = {"G-F", "I-F", "P-F", "S13", "S14b", "S15a", "S4a", "S7"}
ALTERATIONS = [
    (name, which, change, formula)
    for name in PROVED
    for which, claimed in statements.get(name).formulas.items()
    for change, formula in altered(claimed)
]


@pytest.mark.parametrize(
    ("name", "which", "change", "formula"),
    [
        pytest.param(*a, marks=pytest.mark.slow)
        if a[0] in LONG and a[2] != "sign" and not a[2].startswith("left,")
        else a
        for a in ALTERATIONS
    ],
    ids=[" - ".join(a[:3]) for a in ALTERATIONS],
)
def test_an_altered_formula_is_not_proved(name, which, change, formula):
    statement = statements.get(name)
    assert formula != statement.formulas[which]
    check = statement.proof({**statement.formulas, which: formula})
    assert not check.proved, f"{name} proves {formula}"


def test_a_claim_without_a_formula_is_not_proved():
    formulas = dict(statements.get("S4a").formulas)
    del formulas["exponential"]
    made = statements.get("S4a").proof(formulas)
    assert not made.proved
    assert made.detail == "the claim has no formula 'exponential'"
