"""The prover against known inequalities, and its certificates against a verifier of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from theory import prove
from theory.__main__ import main
from theory.pmf import entropy, random_pmf
from theory.shannon import (
    MAX_VARIABLES,
    ExpressionError,
    Relation,
    ShannonCertificate,
    Step,
    Witness,
    elementals,
    parse_constraints,
    parse_relation,
)
from theory.shannon.rational import solve

TRUE = [
    ("I(X;Y) >= 0", ()),
    ("H(X|Y) <= H(X)", ()),
    ("H(X,Y) <= H(X) + H(Y)", ()),
    ("2 H(X,Y,Z) <= H(X,Y) + H(Y,Z) + H(X,Z)", ()),  # Han
    ("H(X,Y,Z) + H(Z) <= H(X,Z) + H(Y,Z)", ()),  # submodularity
    ("I(X;Y,Z) = I(X;Y) + I(X;Z|Y)", ()),
    ("I(X;Y;Z) = I(X;Y) - I(X;Y|Z)", ()),
    ("I(X;Z) <= I(X;Y)", "X -> Y -> Z"),
    ("I(X;Z) <= I(Y;Z)", "X -> Y -> Z"),
    ("I(X;Y|Z) <= I(X;Y)", "X -> Y -> Z"),
    ("I(A;D) <= I(B;C)", "A -> B -> C -> D"),
    ("H(Z) <= H(X,Y)", "Z = f(X,Y)"),
    ("I(Z;W) <= I(X;W)", "Z = f(X)"),
    ("I(X;Y) <= I(X;Y|Z)", "X _|_ Y"),
    ("I(X;Y) <= I(X;Y|Z)", "X _|_ Z"),
    ("H(X,Y,Z) = H(X) + H(Y) + H(Z)", "X _|_ Y _|_ Z"),
    ("H(Z|X) = H(Y|X)", ("Z = f(X,Y)", "Y = g(X,Z)")),  # one-time pad
    ("H(Y) <= 1/2 H(X)", "2 H(Y) <= H(X)"),
    ("0.5 H(X) + 1/3 H(X) <= 5/6 H(X,Y)", ()),
    ("H(X) = H(X)", ()),
]

FALSE = [
    ("I(X;Y) <= 0", ()),
    ("H(X) <= H(X|Y)", ()),
    ("I(X;Z) <= I(X;Y)", ()),
    ("I(X;Z) >= I(X;Y)", "X -> Y -> Z"),
    ("I(X;Z) <= I(X;Y)", "Y -> X -> Z"),
    ("I(X;Y|Z) <= I(X;Y)", ()),
    ("I(X;Y;Z) >= 0", ()),
    ("I(X;Y|Z) = 0", "X _|_ Y"),
    ("H(X) <= H(Z)", "Z = f(X)"),
    ("H(X) = H(Y)", ()),
]

ZHANG_YEUNG = "2 I(C;D) <= I(A;B) + I(A;C,D) + 3 I(C;D|A) + I(C;D|B)"


def entropies_of_step(text: str) -> dict[frozenset[str], Fraction]:
    """An elemental inequality, read from its text without the library."""
    kind, inside = re.fullmatch(r"([HI])\((.*)\) >= 0", text).groups()
    body, _, condition = inside.partition("|")
    rest = frozenset(condition.split(",")) - {""}
    out: dict[frozenset[str], Fraction] = {}

    def put(subset, weight):
        if subset:
            out[frozenset(subset)] = out.get(frozenset(subset), Fraction(0)) + weight

    if kind == "H":
        put(rest | {body}, 1)
        put(rest, -1)
    else:
        first, second = body.split(";")
        put(rest | {first}, 1)
        put(rest | {second}, 1)
        put(rest | {first, second}, -1)
        put(rest, -1)
    return out


def independently_valid(certificate: ShannonCertificate) -> bool:
    """Adds up the certificate from the texts of its elemental steps, in fractions."""
    total: dict[frozenset[str], Fraction] = {}
    parts = [(s.multiplier, entropies_of_step(s.relation.text)) for s in certificate.elementals]
    parts += [(s.multiplier, s.relation.difference) for s in certificate.constraints]
    for multiplier, combination in parts:
        for subset, weight in combination.items():
            total[subset] = total.get(subset, Fraction(0)) + multiplier * weight
    total = {subset: weight for subset, weight in total.items() if weight}
    signs = all(s.multiplier > 0 for s in certificate.elementals) and all(
        s.multiplier > 0 or s.relation.equality for s in certificate.constraints
    )
    return signs and total == dict(certificate.target)


@pytest.mark.parametrize(("claim", "known"), TRUE)
def test_true_inequalities_are_proved(claim, known):
    proof = prove(claim, given=known)
    assert proof.proved
    assert bool(proof)
    assert proof.witness is None
    for certificate in filter(None, (proof.certificate, proof.converse)):
        assert certificate.check()
        assert independently_valid(certificate)
    assert (proof.converse is not None) == (
        parse_relation(claim).equality and bool(parse_relation(claim).difference)
    )


@pytest.mark.parametrize(("claim", "known"), FALSE)
def test_false_inequalities_get_a_witness(claim, known):
    proof = prove(claim, given=known)
    assert not proof.proved
    assert proof.certificate is None
    relation, constraints = parse_relation(claim), parse_constraints(known)
    assert proof.witness.check(relation, constraints)
    values = proof.witness.entropies
    assert all(isinstance(value, Fraction) for value in values.values())
    names = sorted(frozenset().union(*values))
    for step in elementals(names):
        pairs = entropies_of_step(step.text).items()
        assert sum(weight * values[subset] for subset, weight in pairs) >= 0


def test_zhang_yeung_is_true_but_not_shannon():
    proof = prove(ZHANG_YEUNG)
    assert not proof.proved
    assert proof.witness.check(parse_relation(ZHANG_YEUNG), ())
    p = random_pmf(np.random.default_rng(0), (2, 3, 2, 3))
    names = "ABCD"
    value = sum(
        float(weight) * entropy(p, [names.index(name) for name in subset])
        for subset, weight in parse_relation(ZHANG_YEUNG).difference.items()
    )
    assert value >= 0


NAMES = ["A", "B", "C", "D"]


@st.composite
def shannon_combination(draw):
    """A nonnegative combination of elementals of up to four variables, not all zero."""
    names = NAMES[: draw(st.integers(2, 4))]
    known = elementals(names)
    weights = draw(
        st.lists(
            st.fractions(0, 3, max_denominator=6), min_size=len(known), max_size=len(known)
        ).filter(any)
    )
    total: dict[frozenset[str], Fraction] = {}
    for weight, relation in zip(weights, known, strict=True):
        for subset, factor in relation.difference.items():
            total[subset] = total.get(subset, Fraction(0)) + weight * factor
    terms = [f"{w} H({','.join(sorted(s))})" for s, w in total.items() if w > 0]
    minus = [f"{-w} H({','.join(sorted(s))})" for s, w in total.items() if w < 0]
    return " + ".join(terms) or "0", " + ".join(minus) or "0"


@settings(max_examples=30)
@given(shannon_combination())
def test_every_combination_of_elementals_is_proved(sides):
    left, right = sides
    proof = prove(f"{left} >= {right}")
    assert proof.proved
    assert independently_valid(proof.certificate)
    assert not prove(f"{left} <= {right}").proved  # positive somewhere: not all weights are 0


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_what_is_proved_holds_for_random_variables(seed):
    """Random linear claims: if one is proved, no pmf breaks it."""
    rng = np.random.default_rng(seed)
    names = NAMES[:3]
    subsets = [c for size in (1, 2, 3) for c in combinations(names, size)]
    weights = rng.integers(-2, 3, len(subsets))
    text = " + ".join(f"{w} H({','.join(s)})" for w, s in zip(weights, subsets, strict=True))
    proof = prove(text.replace("+ -", "- ") + " >= 0")
    values = []
    for _ in range(20):
        p = random_pmf(rng, (2, 3, 2))
        h = [entropy(p, [names.index(name) for name in s]) for s in subsets]
        values.append(float(weights @ h))
    if proof.proved:
        assert min(values) >= -1e-9


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_a_corrupted_certificate_is_rejected(seed):
    rng = np.random.default_rng(seed)
    claim, known = TRUE[int(rng.choice([3, 4, 7, 10, 13, 15]))]
    certificate = prove(claim, given=known).certificate
    steps = [*certificate.elementals, *certificate.constraints]
    at = int(rng.integers(len(steps)))
    wrong = Step(steps[at].multiplier + Fraction(int(rng.integers(1, 5)), 7), steps[at].relation)
    count = len(certificate.elementals)
    steps[at] = wrong
    broken = replace(certificate, elementals=tuple(steps[:count]), constraints=tuple(steps[count:]))
    assert not broken.check()
    assert not independently_valid(broken)


def test_a_step_that_is_no_elemental_is_rejected():
    claim = parse_relation("H(X) >= H(X,Y)")  # false
    forged = ShannonCertificate(claim.difference, (Step(Fraction(1), claim),), ())
    assert not forged.check()


def test_a_negative_multiplier_is_rejected():
    elemental = elementals(["X", "Y"])[2]
    target = {subset: -weight for subset, weight in elemental.difference.items()}
    assert not ShannonCertificate(target, (Step(Fraction(-1), elemental),), ()).check()
    at_least = Relation("H(X) >= 0", {frozenset("X"): Fraction(1)}, equality=False)
    against = {frozenset("X"): Fraction(-1)}
    assert not ShannonCertificate(against, (), (Step(Fraction(-1), at_least),)).check()


def test_multipliers_too_fine_to_round_are_solved_for():
    certificate = prove("1/1009 I(X;Y) + 3/2003 H(X|Y) >= 0").certificate
    assert [step.multiplier for step in certificate.elementals] == [
        Fraction(3, 2003),
        Fraction(1, 1009),
    ]
    assert independently_valid(certificate)
    witness = prove("H(X) <= H(Y)", given="1009 H(Y) = 1000 H(X)").witness
    assert witness.entropies[frozenset("Y")] / witness.entropies[frozenset("X")] == Fraction(
        1000, 1009
    )


@given(st.integers(0, 2**32 - 1))
def test_solve_is_exact(seed):
    rng = np.random.default_rng(seed)
    rows, columns = (int(n) for n in rng.integers(1, 6, 2))
    subsets = [frozenset([str(i)]) for i in range(rows)]
    matrix = [[Fraction(int(n), 7) for n in row] for row in rng.integers(-2, 3, (columns, rows))]
    built = [{s: w for s, w in zip(subsets, row, strict=True) if w} for row in matrix]
    target = {s: Fraction(int(n)) for s, n in zip(subsets, rng.integers(-2, 3, rows), strict=True)}
    found = solve(built, target)
    floats = np.array(matrix, dtype=float).T
    right = np.array([float(target[s]) for s in subsets])
    best, *_ = np.linalg.lstsq(floats, right, rcond=None)
    assert (found is not None) == bool(np.allclose(floats @ best, right, atol=1e-9))
    if found is not None:
        for subset in subsets:
            total = sum(x * row.get(subset, 0) for x, row in zip(found, built, strict=True))
            assert total == target[subset]


def point(x: int, y: int, both: int, value: int) -> Witness:
    values = {"X": x, "Y": y, "XY": both}
    entropies = {frozenset(names): Fraction(h) for names, h in values.items()}
    return Witness(entropies, Fraction(value))


@pytest.mark.parametrize(
    ("claim", "known", "witness", "sound"),
    [
        ("H(X) <= H(Y)", (), point(1, 0, 1, -1), True),
        ("H(X) <= H(Y)", (), point(1, 0, 1, -2), False),  # not the value there
        ("H(X) <= H(Y)", (), point(0, 1, 1, 1), False),  # the claim holds there
        ("H(X) <= H(X,Y)", (), point(2, 0, 1, -1), False),  # outside the cone
        ("H(X) <= H(Y)", "H(X) = H(Y)", point(2, 1, 2, -1), False),  # breaks what is given
        ("H(X) <= H(Y)", "H(X) <= H(Y)", point(2, 1, 2, -1), False),
        ("H(X) = H(Y)", (), point(1, 2, 2, -1), True),
        ("H(X) = H(Y)", (), point(1, 1, 2, 0), False),
    ],
)
def test_witnesses_are_checked(claim, known, witness, sound):
    assert witness.check(parse_relation(claim), parse_constraints(known)) is sound


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_number_of_elementals(n):
    names = [f"X{i}" for i in range(n)]
    pairs = n * (n - 1) // 2
    assert len(elementals(names)) == n + (pairs * 2 ** (n - 2) if n > 1 else 0)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("I(X;Z) <= I(X;Y", 15, "expected ')', found the end"),
        ("H(X) > 0", 5, "unexpected '>'"),
        ("H(X)", 4, "expected '<=', '>=' or '=', found the end"),
        ("G(X) <= 0", 0, "expected H(...), I(...), a number or '(', found 'G'"),
        ("H(X) <= 2", 8, "a constant other than 0 has no place among entropies"),
        ("H(X) <= 1/0 H(Y)", 8, "division by zero"),
        ("I(X) <= 0", 3, "expected ';' and a second group, found ')'"),
        ("H(X,) <= 0", 4, "expected the name of a variable, found ')'"),
        ("H(X) <= 0 H", 11, "expected '(', found the end"),
        ("H(X) <= H(Y) H(Z)", 13, "expected the end or an operator, found 'H'"),
        ("H(X;Y) <= 0", 3, "expected ')', found ';'"),
        ("", 0, "expected H(...), I(...), a number or '(', found the end"),
    ],
)
def test_errors_point_at_the_place(text, position, problem):
    with pytest.raises(ExpressionError) as caught:
        prove(text)
    assert caught.value.position == position
    line, shown, pointer = str(caught.value).split("\n")
    assert line == f"cannot read this at position {position}: {problem}"
    assert shown == f"    {text}"
    assert pointer.index("^") == 4 + position


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("X -> Y", "a Markov chain has at least three links"),
        ("X -> -> Y", "expected names of variables"),
        ("X _|_", "expected names of variables"),
        ("X = H(Y)", "'H' means an entropy here; call the function f"),
        ("Z = f(X;Y)", "expected names of variables"),
        ("X -> Y -> Z and ", "one of the constraints is empty"),
    ],
)
def test_errors_in_what_is_given(text, problem):
    with pytest.raises(ExpressionError, match=re.escape(problem)):
        prove("H(X) >= 0", given=text)


def test_too_many_variables_are_refused_with_the_count():
    names = ",".join(f"X{i}" for i in range(MAX_VARIABLES + 1))
    with pytest.raises(ValueError, match=f"^{MAX_VARIABLES + 1} variables .* 2047 joint entropies"):
        prove(f"H({names}) >= 0")


def test_spellings_mean_the_same():
    first = parse_relation("I(X; Y|Z)≥0").difference
    assert first == parse_relation("0 <= I( Y ; X | Z )").difference
    assert parse_constraints("X→Y→Z")[0].difference == first_of("X -> Y -> Z")
    assert parse_constraints("X ⊥ Y | Z")[0].difference == first
    assert parse_constraints("X,W -> Y -> Z")[0].difference == first_of("(W,X) -> Y -> Z")
    assert parse_constraints(()) == parse_constraints("") == ()


def first_of(text):
    return parse_constraints(text)[0].difference


def test_text_of_a_proof():
    assert str(prove("I(X;Z) <= I(X;Y)", given="X->Y->Z")).startswith(
        "proved: I(X;Z) <= I(X;Y), given X->Y->Z\n"
    )
    text = str(prove("H(X) <= H(Y)"))
    assert text.splitlines()[0] == "not provable by Shannon inequalities: H(X) <= H(Y)"
    assert text.splitlines()[1].startswith("witness of the cone: H(X) = 1, H(Y) = 0")
    assert text.splitlines()[2].startswith("The claim is false: random variables have")


# --- what a point of the cone says ----------------------------------------------------------

#: Entropies, in bits, of 0/1 variables: fair bits shared by a subset, and a parity of three.
SUBSETS = [frozenset(c) for size in (1, 2, 3) for c in combinations("XYZ", size)]
RAYS = [{s: Fraction(int(bool(s & shared))) for s in SUBSETS} for shared in SUBSETS]
RAYS.append({s: Fraction(min(len(s), 2)) for s in SUBSETS})


@pytest.mark.parametrize(
    ("claim", "given"),
    [
        ("I(X;Y|Z) <= I(X;Y)", ()),
        ("I(X;Y) <= I(X;Y|Z)", ()),
        ("I(X;Z) >= I(X;Y)", "X -> Y -> Z"),
        ("H(X,Y,Z) <= H(X,Y)", ("X _|_ Y", "I(X;Z) = I(Y;Z)")),
        ("2 H(X,Y,Z) = H(X,Y) + H(Y,Z) + H(X,Z)", ()),
        ("H(X) + H(Y) + H(Z) <= 3/2 H(X,Y,Z)", "X _|_ Y"),
    ],
)
def test_a_point_of_up_to_three_variables_belongs_to_random_variables(claim, given):
    """It is a rational combination of independent fair bits and parities: the claim is false."""
    witness = prove(claim, given=given).witness
    assert witness.refutes
    table = np.array([[float(ray[s]) for ray in RAYS] for s in SUBSETS])
    target = np.array([float(witness.entropies[s]) for s in SUBSETS])
    shares = linprog(np.ones(len(RAYS)), A_eq=table, b_eq=target, bounds=(0, None)).x
    exact = [Fraction(float(share)).limit_denominator(720) for share in shares]
    assert min(exact) >= 0
    assert all(
        sum(x * ray[s] for x, ray in zip(exact, RAYS, strict=True)) == witness.entropies[s]
        for s in SUBSETS
    )


def test_a_point_of_four_variables_refutes_nothing():
    """The inequality of Zhang and Yeung is true for all random variables."""
    proof = prove("2 I(C;D) <= I(A;B) + I(A;C,D) + 3 I(C;D|A) + I(C;D|B)")
    assert not proof.proved
    assert not proof.witness.refutes
    assert str(proof).endswith(
        "The claim is undecided: random variables need not have these entropies."
    )


# --- limits ---------------------------------------------------------------------------------

TWENTY = [f"X{i}" for i in range(20)]
BOUNDED = {
    "20 variables": (f"H({','.join(TWENTY)}) >= 0", "20 variables"),
    "20 sums": (" + ".join(f"H({x})" for x in TWENTY) + " >= 0", "20 variables"),
    "40 groups": (f"I({';'.join(f'X{i}' for i in range(40))}) >= 0", "at most 10 groups"),
    "40 equal groups": (f"I({';'.join(['X'] * 40)}) >= 0", "at most 10 groups"),
    "parentheses": ("(" * 2000 + "H(X)" + ")" * 2000 + " >= 0", "at most 50 nested"),
    "a long text": ("H(X) + " * 100_000 + "H(X) >= 0", "characters, at most 10000"),
    "a long number": ("9" * 5000 + " H(X) >= 0", "a number of 5000 characters"),
    "a large number": ("9" * 80 + " H(X) >= 0", "numerators and denominators"),
    "large products": ("1000000 (1000000 H(X)) >= 0", "numerators and denominators"),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_large_claims_are_refused_before_anything_is_built(name):
    claim, message = BOUNDED[name]
    with pytest.raises(ValueError, match=message) as refused:
        prove(claim)
    assert len(str(refused.value)) < 500


def test_large_constraints_are_refused():
    chain = " -> ".join(TWENTY)
    for constraint, message in ((chain, "20 variables"), ("X -> Y" * 5000, "characters, at most")):
        with pytest.raises(ValueError, match=message):
            prove("H(X0) >= 0", given=constraint)


def test_refusals_need_little_memory():
    """All large claims within 1.5 GiB of address space, imports included."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))\n"
        "from tests.theory.test_shannon import BOUNDED\n"
        "from theory import prove\n"
        "for claim, _ in BOUNDED.values():\n"
        "    try: prove(claim)\n"
        "    except ValueError: continue\n"
        "    raise SystemExit(claim[:60])\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-400:] + run.stdout


@pytest.mark.parametrize("wrong", [3, None, b"H(X) >= 0", ["H(X) >= 0"]])
def test_a_claim_that_is_no_text_is_refused_in_one_line(wrong):
    with pytest.raises(TypeError, match=r"^claim must be a text such as .*, got "):
        prove(wrong)


@pytest.mark.parametrize(
    ("claim", "true"),
    [
        ("H(X) >= H(X) - 0.0000001 H(Y)", True),
        ("H(X) + 0.000000001 H(Y) >= 0", True),
        ("1000000000 H(X) + 1/1000000000 I(Y;Z) >= 0", True),
        ("H(X) >= 0.000000001 H(Y)", False),
        ("H(A) + H(B) >= 0.000000001 I(C;D|E) + H(A,B)", False),
    ],
)
def test_coefficients_far_apart_are_decided_exactly(claim, true, capsys):
    proof = prove(claim)
    assert bool(proof) == true
    assert proof.certificate.check() if true else proof.witness.check(parse_relation(claim), ())
    assert main(["prove", claim]) == (0 if true else 1)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("claim", "given"),
    [
        ("I(X;Z) <= I(X;Y)", "X->Y->Z"),
        ("I(X;Z) <= I(X;Y)", ()),
        ("I(X;Y,Z) = I(X;Y) + I(X;Z|Y)", ()),
        ("H(A) <= I(A;B,C)", "A=f(B,C)"),
        ("I(A;B) <= I(A;B|C) + I(A;B|D) + I(C;D)", ()),
    ],
)
def test_fractions_decide_as_floats_do(claim, given, monkeypatch):
    floats = prove(claim, given=given)

    def undecided(*_):
        raise ArithmeticError("tolerance")

    monkeypatch.setattr("theory.shannon.prover._certify", undecided)
    exact = prove(claim, given=given)
    assert bool(exact) == bool(floats)


def test_what_stays_undecided_is_one_line(capsys):
    assert main(["prove", "H(A,B,C,D,E,F) + 1/1000000000 H(A) >= 0"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("theory: undecided: found no exact")
    assert printed.err.count("\n") == 1
