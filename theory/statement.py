"""`Statement`, a machine-checkable claim, and `Verdict`, the result of checking it.

A statement consists of data and functions: a generator of instances that meet its hypotheses; the
slack, which is nonnegative iff the claim holds on an instance; a witness, the instance of smallest
known slack; and for each hypothesis a counterexample, an instance on which the claim fails without
that hypothesis. `theory.verifier` checks all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.record import Record
from theory.formula import Formulas

#: Kinds of evidence for the machine-checked formulas, from the strongest to the weakest.
EVIDENCE = ("symbolic", "shannon-lp", "exhaustive", "searched")

#: Source of the claims that are not textbook facts.
RECONSTRUCTION = "reconstruction of arXiv:2509.25584"

#: An object that a statement is about, such as a pmf or a toy network; opaque to other modules.
Instance = Any


@dataclass(frozen=True)
class Counterexample:
    """An instance that meets all hypotheses except one and violates the claim.

    Attributes:
        instance: instance of negative slack.
        sentence: explanation in one line.

    Example:
        >>> Counterexample(instance=(1.0, 2.0), sentence="y = 2 x has angle 0").sentence
        'y = 2 x has angle 0'
    """

    instance: Instance
    sentence: str


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of a statement.

    Attributes:
        name: short name, unique within the statement.
        text: the hypothesis as a formula or sentence.
        holds: whether an instance meets the hypothesis. It must be true for all drawn instances,
            the witness and the counterexamples of the *other* hypotheses, and false for the
            counterexample of this hypothesis.
        counterexample: instance that shows that the hypothesis cannot be dropped.

    Example:
        >>> positive = Hypothesis(
        ...     name="x positive", text="x > 0", holds=lambda x: x > 0,
        ...     counterexample=lambda: Counterexample(-1.0, "at x = -1, x^3 < 0"),
        ... )
        >>> positive.holds(positive.counterexample().instance)
        False
    """

    name: str
    text: str
    holds: Callable[[Instance], bool]
    counterexample: Callable[[], Counterexample]


@dataclass(frozen=True)
class ProofCheck:
    """Result of running a proof: whether it succeeded, and the facts it consists of.

    Example:
        >>> ProofCheck(True, "sympy: difference of both sides simplifies to 0").proved
        True
    """

    proved: bool
    detail: str


@dataclass(frozen=True)
class Search:
    """A parametrised family of instances in which an optimiser searches for a violation.

    Attributes:
        dimension: number of parameters.
        decode: maps any finite real vector, shape (dimension,), to an instance that meets all
            hypotheses (for example by softmax, tanh or normalisation).

    Example:
        >>> Search(1, lambda v: float(np.exp(v[0]))).decode(np.zeros(1))
        1.0
    """

    dimension: int
    decode: Callable[[NDArray[np.float64]], Instance]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A claim with its hypotheses and everything required to check it.

    Attributes:
        id: permanent short identifier such as "S9". Statements "O1", "O2", ... are objections:
            they claim that an example exists.
        title: the claim in a few words.
        setting: assumptions under which the terms are defined (finite alphabets, nonzero vectors).
        claim: the formula, as text.
        source: literature reference, with equation number if available.
        evidence: "symbolic" (SymPy proves `formulas`), "shannon-lp" (a linear program proves the
            entropy formulas for all distributions, with a certificate checked in exact
            arithmetic), "exhaustive" (`formulas` hold in every case of `domain`) or "searched"
            (random instances and an optimiser). If it differs between parts, the weakest.
        domain: cases that the evidence covers, in words.
        generate: draws an instance that meets all hypotheses.
        slack: margin by which the claim holds on an instance; it holds iff slack >= -tolerance.
        witness: instance of smallest known slack.
        witness_slack: upper bound on the slack of the witness (0 up to rounding if tight).
        hypotheses: hypotheses of the claim.
        superfluous: common additional hypotheses that are not needed, each with the reason.
        notes: remarks, for example which variant of the claim is false.
        formulas: what the machine checks, by name; `Formula` or `EntropyFormula`.
        proof: proves the formulas that it receives, or finds that it cannot; required unless
            evidence is "searched". It reads both sides and the relation from its argument, so a
            false formula fails. A side that only names a quantity must be the name in the proof.
        argument: the steps from the formulas to the claim that no machine checks, in words; ""
            if the formulas are the claim.
        search: family of instances for the optimiser; required if evidence is "searched", unless
            no parametrised family exists.
        tolerance: largest violation attributed to rounding.

    Raises:
        ValueError: unknown evidence, missing proof or formulas, or two hypotheses of one name.

    Example:
        >>> square = Statement(
        ...     id="X1", title="squares are nonnegative", setting="x real", claim="x^2 >= 0",
        ...     source="school", evidence="searched", domain="x in [-1, 1]",
        ...     generate=lambda rng: rng.uniform(-1, 1), slack=lambda x: x * x,
        ...     witness=lambda: 0.0,
        ... )
        >>> square.slack(square.witness())
        0.0
    """

    id: str
    title: str
    setting: str
    claim: str
    source: str
    evidence: str
    domain: str
    generate: Callable[[np.random.Generator], Instance]
    slack: Callable[[Instance], float]
    witness: Callable[[], Instance]
    witness_slack: float = 1e-9
    hypotheses: tuple[Hypothesis, ...] = ()
    superfluous: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    formulas: Formulas = field(default_factory=dict)
    proof: Callable[[Formulas], ProofCheck] | None = None
    argument: str = ""
    search: Search | None = None
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        if self.evidence not in EVIDENCE:
            raise ValueError(
                f"{self.id}: unknown evidence '{self.evidence}'; choose from {', '.join(EVIDENCE)}"
            )
        if self.evidence != "searched" and self.proof is None:
            raise ValueError(f"{self.id}: evidence '{self.evidence}' needs a proof to run")
        if self.proof is not None and not self.formulas:
            raise ValueError(f"{self.id}: the proof has no formulas to prove")
        names = [hypothesis.name for hypothesis in self.hypotheses]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.id}: hypotheses share a name: {', '.join(names)}")


@dataclass(frozen=True)
class HypothesisVerdict(Record):
    """Whether the counterexample shows that a hypothesis is necessary.

    Attributes:
        name: name of the hypothesis.
        counterexample_found: whether the counterexample violates this hypothesis, meets all
            others and violates the claim.
        slack: slack of the counterexample; negative if it violates the claim.
        sentence: explanation of the counterexample.
    """

    name: str
    counterexample_found: bool
    slack: float
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """Result of checking one statement.

    Attributes:
        id: id of the statement.
        evidence: evidence of the statement, the weakest over its parts.
        domain: cases that the evidence covers.
        trials: number of instances checked, drawn or evaluated by the optimiser.
        worst_slack: smallest slack among these instances.
        holds: no instance violates the claim, the proof (if any) succeeds, and the witness is
            valid.
        hypotheses: result for each hypothesis.
        witness_slack: slack of the witness.
        proof: facts the proof consists of, or "".
        failures: one line per failure; empty iff `holds`.
        seconds: elapsed time.

    Raises:
        ValueError: `holds` contradicts `failures`.

    Example:
        >>> verdict = Verdict(
        ...     id="S9", evidence="shannon-lp", domain="all", trials=10, worst_slack=0.0,
        ...     holds=True, hypotheses=(), witness_slack=0.0, proof="", failures=(), seconds=0.1,
        ... )
        >>> Verdict.from_json(verdict.to_json()) == verdict
        True
    """

    id: str
    evidence: str
    domain: str
    trials: int
    worst_slack: float
    holds: bool
    hypotheses: tuple[HypothesisVerdict, ...]
    witness_slack: float
    proof: str
    failures: tuple[str, ...]
    seconds: float

    def __post_init__(self) -> None:
        if self.holds == bool(self.failures):
            raise ValueError(f"{self.id}: holds={self.holds} contradicts failures {self.failures}")

    @property
    def complete(self) -> bool:
        """Whether the claim holds and all hypotheses are shown to be necessary."""
        return self.holds and all(h.counterexample_found for h in self.hypotheses)
