"""NLL_skip >= H_F(Y|Z_skip) for a tail in F: usable information can certify that a skip hurts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory.pmf import Pmf, as_pmf, random_pmf
from theory.statement import Counterexample, Hypothesis, Statement


@dataclass(frozen=True)
class Probes:
    """A joint pmf of (Z, Y), a finite family of predictors, and the fixed tail.

    Attributes:
        p: shape (z, k).
        family: shape (members, z, k), each row a pmf over answers.
        tail: shape (z, k).
    """

    p: Pmf
    family: Pmf
    tail: Pmf

    def nll(self, predictor: Pmf) -> float:
        """E[-log predictor(Y|Z)] in nats."""
        return -float(np.sum(self.p * np.log(predictor)))

    def entropy(self) -> float:
        """H_F(Y|Z): the smallest NLL in the family."""
        return float(-(self.p * np.log(self.family)).sum(axis=(1, 2)).max())

    def entropy_without_input(self) -> float:
        """H_F(Y): the same over predictions the family can make, whatever Z is."""
        rows = self.family.reshape(-1, self.p.shape[1])
        return float((-np.log(rows) @ self.p.sum(axis=0)).min())

    @property
    def has_tail(self) -> bool:
        """Whether the tail is a member."""
        return bool(np.abs(self.family - self.tail).max(axis=(1, 2)).min() <= 1e-12)

    @property
    def ignores_inputs(self) -> bool:
        """Whether every prediction of a member is made, for all inputs, by some member."""
        spread = np.abs(self.family - self.family[:, :1]).max(axis=(1, 2))
        constant = self.family[spread <= 1e-12, 0]
        if not len(constant):
            return False
        rows = self.family.reshape(-1, self.p.shape[1])
        gaps = np.abs(rows[:, None, :] - constant[None, :, :]).max(axis=2)
        return bool(gaps.min(axis=1).max() <= 1e-12)


def generate(rng: np.random.Generator) -> Probes:
    """A few random predictors, closed under ignoring the input; the tail is one of them."""
    z, k = (int(n) for n in rng.integers(2, 5, 2))
    chosen = rng.dirichlet(np.full(k, 0.7), size=(int(rng.integers(1, 4)), z)) + 1e-6
    family = with_constants(chosen / chosen.sum(axis=2, keepdims=True))
    return Probes(random_pmf(rng, (z, k)), family, family[rng.integers(len(family))])


def with_constants(members: Pmf) -> Pmf:
    """The members, and for each of their predictions the member that always makes it."""
    rows = members.reshape(-1, members.shape[2])
    return np.concatenate([members, np.repeat(rows[:, None, :], members.shape[1], axis=1)])


def slack(case: Probes) -> float:
    """The smaller of NLL_tail - H_F(Y|Z) and the usable information, in nats."""
    best = case.entropy()
    return min(case.nll(case.tail) - best, case.entropy_without_input() - best)


def predictor(right: float) -> Pmf:
    """Z a bit: says Y = Z with this probability."""
    return np.array([[right, 1 - right], [1 - right, right]])


COIN = as_pmf(np.eye(2))  # Y = Z, a fair bit

STATEMENT = Statement(
    id="S14a",
    title="usable information certifies that a skip hurts",
    setting="finite alphabets; F a family of predictors, H_F its smallest NLL, no probability 0",
    claim="NLL_skip >= H_F(Y|Z_skip), and I_F(Z -> Y) = H_F(Y) - H_F(Y|Z) >= 0",
    source="Xu et al. 2020, arXiv:2002.10689, Definitions 1-3 and Proposition 1",
    evidence="searched",
    domain="random finite families of predictors on up to 4 states and 4 answers",
    generate=generate,
    slack=slack,
    # Only the constant fair guess: the tail attains H_F, and nothing is usable.
    witness=lambda: Probes(COIN, np.full((1, 2, 2), 0.5), np.full((2, 2), 0.5)),
    hypotheses=(
        Hypothesis(
            "the tail is a probe",
            "the fixed tail belongs to F",
            holds=lambda case: case.has_tail,
            counterexample=lambda: Counterexample(
                Probes(COIN, np.full((1, 2, 2), 0.5), predictor(0.9)),
                "F only guesses, the tail is right 9 times in 10: NLL .11 below H_F = .69",
            ),
        ),
        Hypothesis(
            "inputs can be ignored",
            "for every prediction of a member there is a member that makes it for all inputs",
            holds=lambda case: case.ignores_inputs,
            counterexample=lambda: Counterexample(
                Probes(COIN, predictor(0.1)[None], predictor(0.1)),
                "a family of one that is mostly wrong: usable information is negative",
            ),
        ),
    ),
    notes=(
        "The first part needs only that the tail is in F, the second only that inputs can be "
        "ignored. A bound from below: it can show that a skip is unsafe, never that it is safe.",
    ),
)
