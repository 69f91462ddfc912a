"""NLL_skip >= H_F(Y|Z_skip) for a suffix in F: usable information certifies harmful skips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory.pmf import Pmf, as_pmf, random_pmf
from theory.statement import Counterexample, Hypothesis, Statement


@dataclass(frozen=True)
class Probes:
    """A joint pmf of (Z, Y), a finite family of predictors, and the fixed suffix.

    Attributes:
        p: joint pmf, shape (z, k).
        family: predictors, shape (members, z, k), each row a pmf over answers.
        suffix: predictor of the model, shape (z, k).
    """

    p: Pmf
    family: Pmf
    suffix: Pmf

    def nll(self, predictor: Pmf) -> float:
        """E[-log predictor(Y|Z)] in nats."""
        return -float(np.sum(self.p * np.log(predictor)))

    def entropy(self) -> float:
        """H_F(Y|Z), the smallest NLL in the family."""
        return float(-(self.p * np.log(self.family)).sum(axis=(1, 2)).max())

    def entropy_without_input(self) -> float:
        """H_F(Y), the smallest NLL of the predictions of the family used for all inputs."""
        rows = self.family.reshape(-1, self.p.shape[1])
        return float((-np.log(rows) @ self.p.sum(axis=0)).min())

    @property
    def contains_suffix(self) -> bool:
        """Whether the suffix belongs to the family."""
        return bool(np.abs(self.family - self.suffix).max(axis=(1, 2)).min() <= 1e-12)

    @property
    def has_constants(self) -> bool:
        """Whether for every prediction of a member some member makes it for all inputs."""
        spread = np.abs(self.family - self.family[:, :1]).max(axis=(1, 2))
        constant = self.family[spread <= 1e-12, 0]
        if not len(constant):
            return False
        rows = self.family.reshape(-1, self.p.shape[1])
        gaps = np.abs(rows[:, None, :] - constant[None, :, :]).max(axis=2)
        return bool(gaps.min(axis=1).max() <= 1e-12)


def generate(rng: np.random.Generator) -> Probes:
    """Random predictors and their constant versions; the suffix is a random member."""
    z, k = (int(n) for n in rng.integers(2, 5, 2))
    members = rng.dirichlet(np.full(k, 0.7), size=(int(rng.integers(1, 4)), z)) + 1e-6
    family = with_constants(members / members.sum(axis=2, keepdims=True))
    return Probes(random_pmf(rng, (z, k)), family, family[rng.integers(len(family))])


def with_constants(members: Pmf) -> Pmf:
    """Add for each prediction the constant predictor that makes it for all inputs."""
    rows = members.reshape(-1, members.shape[2])
    return np.concatenate([members, np.repeat(rows[:, None, :], members.shape[1], axis=1)])


def slack(case: Probes) -> float:
    """Minimum of NLL of the suffix - H_F(Y|Z) and the usable information, in nats."""
    smallest = case.entropy()
    return min(case.nll(case.suffix) - smallest, case.entropy_without_input() - smallest)


def predictor(probability: float) -> Pmf:
    """Predictor that gives Y = Z this probability, for bits Y and Z."""
    return np.array([[probability, 1 - probability], [1 - probability, probability]])


COIN = as_pmf(np.eye(2))  # Y = Z, a fair bit

STATEMENT = Statement(
    id="S14a",
    title="usable information certifies that a skip is harmful",
    setting="finite alphabets; F a family of predictors with positive probabilities; H_F(Y|Z) its "
    "smallest NLL, H_F(Y) that of its predictions used for all inputs",
    claim="NLL_skip >= H_F(Y|Z_skip), and I_F(Z -> Y) = H_F(Y) - H_F(Y|Z) >= 0",
    source="Xu et al. 2020, arXiv:2002.10689, Definitions 1-3 and Proposition 1",
    evidence="searched",
    domain="random finite families of predictors on up to 4 states and 4 answers",
    argument="H_F is a minimum over F, so no member has a smaller NLL; if F contains the constant "
    "predictors of its predictions, the minimum over them is at least that over all of F.",
    generate=generate,
    slack=slack,
    # F contains only the fair guess: the suffix attains H_F, and the usable information is 0.
    witness=lambda: Probes(COIN, np.full((1, 2, 2), 0.5), np.full((2, 2), 0.5)),
    hypotheses=(
        Hypothesis(
            "suffix in F",
            "the fixed suffix belongs to F",
            holds=lambda case: case.contains_suffix,
            counterexample=lambda: Counterexample(
                Probes(COIN, np.full((1, 2, 2), 0.5), predictor(0.9)),
                "F contains only the fair guess, but the suffix gives the answer probability .9: "
                "its NLL .11 is below H_F = .69",
            ),
        ),
        Hypothesis(
            "optional ignorance",
            "for every prediction of a member of F, some member makes it for all inputs",
            holds=lambda case: case.has_constants,
            counterexample=lambda: Counterexample(
                Probes(COIN, predictor(0.1)[None], predictor(0.1)),
                "for a single predictor that gives the answer probability .1 the usable "
                "information is negative",
            ),
        ),
    ),
    notes=(
        "The first part requires only that the suffix is in F, the second only optional ignorance. "
        "The first part is a lower bound: it can show that a skip is harmful, not that it is safe.",
    ),
)
