"""Greedy draft-and-verify gives the tokens of the full model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import about

#: Tokens are numbered from 2: no two of their multiples and powers that a wrong formula could
#: name are equal by chance.
FIRST_TOKEN = 2
_LENGTH = 3

#: The greedy token after every prefix, in the order of `prefixes`.
Table = tuple[int, ...]


def prefixes(k: int, length: int) -> list[tuple[int, ...]]:
    """All prefixes shorter than `length` over k tokens, the short ones first."""
    tokens = range(FIRST_TOKEN, FIRST_TOKEN + k)
    return [prefix for n in range(length) for prefix in product(tokens, repeat=n)]


@dataclass(frozen=True)
class Drafting:
    """Deterministic models of `length` tokens over k tokens, one table each.

    Attributes:
        k: number of different tokens.
        length: number of tokens to generate.
        ahead: tokens that the draft writes before the full model looks at them.
        full: greedy token of the full model after each prefix.
        draft: greedy token of the skipped model.
        verifier: greedy token of the full model where it reads a whole block at once.
        truncates: whether what follows the first refused token is thrown away.
    """

    k: int
    length: int
    ahead: int
    full: Table
    draft: Table
    verifier: Table
    truncates: bool = True

    def greedy(self) -> tuple[int, ...]:
        """Tokens of the full model, one at a time."""
        full = dict(zip(prefixes(self.k, self.length), self.full, strict=True))
        text: tuple[int, ...] = ()
        while len(text) < self.length:
            text += (full[text],)
        return text

    def drafted(self) -> tuple[int, ...]:
        """Tokens of draft-and-verify."""
        at = prefixes(self.k, self.length)
        draft = dict(zip(at, self.draft, strict=True))
        verifier = dict(zip(at, self.verifier, strict=True))
        text: tuple[int, ...] = ()
        while len(text) < self.length:
            block = text
            while len(block) < min(len(text) + self.ahead, self.length):
                block += (draft[block],)
            checked = [verifier[block[:n]] for n in range(len(text), len(block))]
            for token, wanted in zip(block[len(text) :], checked, strict=True):
                text += (wanted,)
                if token != wanted and self.truncates:
                    break
        return text


def generate(rng: np.random.Generator) -> Drafting:
    """Random tables of up to four tokens; the draft often agrees with the full model."""
    k, length, ahead = (int(rng.integers(low, high)) for low, high in ((2, 4), (1, 5), (1, 5)))
    n = len(prefixes(k, length))
    full = rng.integers(FIRST_TOKEN, FIRST_TOKEN + k, n)
    other = rng.integers(FIRST_TOKEN, FIRST_TOKEN + k, n)
    draft = np.where(rng.random(n) < 0.6, full, other)
    table = tuple(full.tolist())
    return Drafting(k, length, ahead, table, tuple(draft.tolist()), table)


def slack(case: Drafting) -> float:
    """Minus the number of tokens that differ from those of the full model."""
    pairs = zip(case.greedy(), case.drafted(), strict=True)
    return -float(sum(a != b for a, b in pairs))


def example(**changes: object) -> Drafting:
    """Two tokens, length 3: the full model writes 2 2 2 and the draft disagrees at the start."""
    full = (2, 2, 3, 2, 2, 3, 3)  # after (), 2, 3, 22, 23, 32, 33
    draft = (3, 3, 3, 2, 2, 3, 3)
    fields = {"full": full, "draft": draft, "verifier": full, **changes}
    return Drafting(k=2, length=3, ahead=3, **fields)  # type: ignore[arg-type]


FORMULAS: Formulas = {
    "every token": Formula(sp.Symbol("drafted"), "=", sp.Symbol("greedy")),
}


@about({"every token": Formula(None, "=", None)})
def prove(claim: Formulas) -> ProofCheck:
    """All full models and drafts of 3 tokens out of 2, and all block lengths up to 3."""
    (formula,) = claim.values()
    n, cases = len(prefixes(2, _LENGTH)), 0
    tables = list(product(range(FIRST_TOKEN, FIRST_TOKEN + 2), repeat=n))
    for full in tables:
        for draft in tables:
            for ahead in range(1, _LENGTH + 1):
                case = Drafting(2, _LENGTH, ahead, full, draft, full)
                for got, wanted in zip(case.drafted(), case.greedy(), strict=True):
                    if not formula.at(drafted=got, greedy=wanted):
                        return ProofCheck(False, f"fails at {case}")
                cases += 1
    return ProofCheck(True, f"{cases} pairs of models and block lengths")


STATEMENT = Statement(
    id="S19a",
    title="greedy draft-and-verify gives the tokens of the full model",
    setting="a skipped model drafts a block of tokens, the full model reads it at once and keeps "
    "it up to the first token that is not its own, which it replaces",
    claim="the tokens are those of the full model's greedy decoding, for every draft",
    source="Stern, Shazeer & Uszkoreit 2018, arXiv 1811.03115 (blockwise parallel decoding); "
    "Leviathan et al. 2023, arXiv 2211.17192, at temperature 0",
    evidence="exhaustive",
    domain=f"all full models and drafts of {_LENGTH} tokens out of 2, all block lengths; random "
    "ones of up to 4 tokens out of 3",
    formulas=FORMULAS,
    argument="By induction: if the text so far is greedy, each kept token equals the full model's "
    "token after a greedy prefix, and the first refused one is replaced by it. So only equality "
    "with the full model's token matters, and every step adds at least one token; more tokens or "
    "longer texts add no case.",
    generate=generate,
    slack=slack,
    witness=example,
    hypotheses=(
        Hypothesis(
            "a block is read as its tokens are",
            "the full model's token after a prefix is the same whether it reads a block or one "
            "token at a time (in floating point it may differ where two logits are nearly equal)",
            holds=lambda case: case.verifier == case.full,
            counterexample=lambda: Counterexample(
                example(verifier=(3, 2, 3, 2, 2, 3, 3)),
                "two logits are nearly equal at the start, and the block's rounding prefers the "
                "other token: every token after it differs",
            ),
        ),
        Hypothesis(
            "what follows a refused token is thrown away",
            "the draft starts again after the first token that is replaced",
            holds=lambda case: case.truncates,
            counterexample=lambda: Counterexample(
                example(truncates=False),
                "the draft 3 3 3 is refused at its first token, and its others are compared with "
                "what the full model says after the refused prefix",
            ),
        ),
    ),
    notes=("The skip saves time in proportion to the tokens that are kept; it changes none.",),
    proof=prove,
)
