"""Sampling from a draft with the rejection rule gives the distribution of the full model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.pmf import Pmf, random_pmf, softmax_pmf
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement
from theory.statements._proofs import about, collect, is_zero


@dataclass(frozen=True, eq=False)
class Draft:
    """One token: a draft, its acceptance, and what replaces a refused one.

    Attributes:
        full: pmf p of the full model, shape (k,).
        draft: pmf q that the acceptance min(1, p/q) uses, shape (k,).
        drawn: pmf from which the draft token is drawn, shape (k,).
        again: pmf from which a refused token is drawn anew; None for (p - q)_+ normalised.
    """

    full: Pmf
    draft: Pmf
    drawn: Pmf
    again: Pmf | None = None

    def written(self) -> Pmf:
        """Pmf of the token that is written, exactly."""
        kept = self.drawn * np.minimum(1.0, self.full / self.draft)
        rest = np.maximum(self.full - self.draft, 0.0)
        again = self.again
        if again is None:
            again = rest / rest.sum() if rest.sum() > 0.0 else self.full
        return np.asarray(kept + (1.0 - kept.sum()) * again)


def generate(rng: np.random.Generator) -> Draft:
    """Two to six tokens; the draft is close to the full model, far from it, or equal."""
    k = int(rng.integers(2, 7))
    p, q = random_pmf(rng, (k,)), random_pmf(rng, (k,))
    mixed = p + float(rng.choice([0.0, 0.1, 1.0])) * (q - p)
    draft = np.maximum(mixed, 1e-12)
    draft = draft / draft.sum()
    return Draft(p, draft, draft)


def slack(case: Draft) -> float:
    """Minus the largest error of a probability."""
    return -float(np.abs(case.written() - case.full).max())


def witness() -> Draft:
    """A draft that prefers the other of two tokens."""
    q = np.array([0.1, 0.9])
    return Draft(np.array([0.8, 0.2]), q, q)


FULL, DRAFT, OTHERS = sp.symbols("p q others", positive=True)
EXTRA = sp.Symbol("extra", nonnegative=True)
FORMULAS: Formulas = {
    "token": Formula(sp.Symbol("P(written)"), "=", FULL),
    "refused": Formula(sp.Symbol("P(refused)"), "=", sp.Symbol("sum (p-q)_+")),
}


@about(
    {
        "token": Formula(sp.Symbol("P(written)"), "=", None),
        "refused": Formula(sp.Symbol("P(refused)"), "=", sp.Symbol("sum (p-q)_+")),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """A token is kept with min(p, q), refused tokens have mass sum (p-q)_+, which the rest divides.

    q min(1, p/q) = min(p, q) and p - min(p, q) = (p - q)_+, in both orders of p and q. Summed over
    tokens, 1 - sum min(p, q) = sum (p - q)_+, so the redrawn token has probability
    sum (p-q)_+ (p-q)_+ / sum (p-q)_+ = (p-q)_+.
    """
    written = claim["token"].right
    checks = {}
    for order, p, q, acceptance, rest in (
        ("p >= q", DRAFT + EXTRA, DRAFT, sp.Integer(1), EXTRA),
        ("p < q", FULL, FULL + EXTRA, FULL / (FULL + EXTRA), sp.Integer(0)),
    ):
        kept = q * acceptance
        refused = rest + OTHERS  # sum (p-q)_+ over all tokens, this one and the others
        checks[f"written = full where {order}"] = is_zero(
            written.subs({FULL: p, DRAFT: q}, simultaneous=True) - (kept + refused * rest / refused)
        )
        checks[f"p - min(p, q) = (p-q)_+ where {order}"] = is_zero(p - kept - rest)
    return collect(checks, "sympy")


def decode(vector: np.ndarray) -> Draft:
    """Four tokens, both pmfs free."""
    q = softmax_pmf(vector[4:8], (4,))
    return Draft(softmax_pmf(vector[:4], (4,)), q, q)


def drawn_from_full() -> Counterexample:
    """A refused token is drawn from p instead of the rest."""
    case = witness()
    return Counterexample(
        Draft(case.full, case.draft, case.drawn, again=case.full),
        "a refused token is drawn from p = (.8, .2) in place of (1, 0): the second token is "
        "written with probability .34",
    )


def drawn_otherwise() -> Counterexample:
    """The draft is drawn at another temperature than its acceptance assumes."""
    case = witness()
    return Counterexample(
        Draft(case.full, case.draft, np.array([0.0, 1.0])),
        "the draft token is always the second, its likeliest, but accepted as if drawn from "
        "(.1, .9): the second token is written with probability .22",
    )


STATEMENT = Statement(
    id="S19b",
    title="sampling from a draft with the rejection rule follows the full model",
    setting="p the full and q the skipped model's pmf of the next token; a token x drawn from q is "
    "kept with probability min(1, p(x)/q(x)), otherwise one is drawn from (p-q)_+ / sum (p-q)_+",
    claim="the written token has the pmf p, for every q",
    source="Leviathan et al. 2023, arXiv 2211.17192, appendix A.1; Chen et al. 2023, "
    "arXiv 2302.01318, theorem 1",
    evidence="symbolic",
    domain="all pmfs p and q with q > 0, any number of tokens",
    formulas=FORMULAS,
    argument="A token is kept with probability min(p, q); the sum of p - min(p, q) = (p-q)_+ over "
    "tokens is the probability of a refusal, and the redrawn token adds exactly what is missing. "
    "Token by token, the text has the full model's distribution.",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            "refused tokens come from the rest",
            "a refused token is drawn anew from (p-q)_+ / sum (p-q)_+",
            holds=lambda case: case.again is None,
            counterexample=drawn_from_full,
        ),
        Hypothesis(
            "the draft is drawn from q",
            "the acceptance uses the pmf, with its temperature, from which the token was drawn",
            holds=lambda case: bool(np.array_equal(case.drawn, case.draft)),
            counterexample=drawn_otherwise,
        ),
    ),
    notes=("A token is kept with probability 1 - TV(p, q): S7 bounds TV by the change of logits.",),
    proof=proof,
    search=Search(8, decode),
)
