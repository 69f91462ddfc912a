"""`Statement`: a claim that a machine can check. `Verdict`: what the check found.

A statement is data and a few functions. It knows how to draw an instance that meets its
hypotheses, how far an instance is from breaking the claim (the slack), an instance that comes
as close as any known (the witness), and for every hypothesis an instance on which the claim
breaks once that hypothesis is dropped. Nothing in a statement is believed: `theory.verifier`
runs all of it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.record import Record

#: From the strongest to the weakest.
EVIDENCE = ("symbolic", "shannon-lp", "exhaustive", "searched")

#: Where a claim comes from, unless it is a textbook fact with a source of its own.
RECONSTRUCTION = "reconstruction of arXiv:2509.25584"

#: Whatever a statement is about: arrays, a pmf, a toy network. Only its own functions look inside.
Instance = Any


@dataclass(frozen=True)
class Counterexample:
    """An instance that meets every hypothesis but one, and on which the claim fails.

    Attributes:
        instance: goes to `Statement.slack`, which must then be negative.
        sentence: one plain line that says what happens.

    Example:
        >>> Counterexample(instance=(1.0, 2.0), sentence="y = 2 x moves no angle").sentence
        'y = 2 x moves no angle'
    """

    instance: Instance
    sentence: str


@dataclass(frozen=True)
class Hypothesis:
    """Something the claim needs.

    Attributes:
        name: a few words, unique within the statement.
        text: the hypothesis as a formula or sentence.
        holds: whether an instance meets it. The verifier asks it of every instance drawn, of
            the witness, and of the counterexamples to the *other* hypotheses; it must be False
            on this one's own.
        counterexample: an instance that shows the hypothesis cannot be dropped.

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
    """What came of running a proof again: whether it went through, and what it consists of.

    Example:
        >>> ProofCheck(True, "sympy: difference of both sides simplifies to 0").proved
        True
    """

    proved: bool
    detail: str


@dataclass(frozen=True)
class Search:
    """A family of instances for an optimiser that tries to break the claim.

    Attributes:
        dimension: length of the parameter vector.
        decode: from any finite real vector of that length, shape (dimension,), to an instance
            that meets every hypothesis (map reals to the constraint set: softmax, tanh, norms).

    Example:
        >>> Search(1, lambda v: float(np.exp(v[0]))).decode(np.zeros(1))
        1.0
    """

    dimension: int
    decode: Callable[[NDArray[np.float64]], Instance]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A claim, what it needs, and everything required to check it.

    Attributes:
        id: short and fixed, for example "S9". Ids "O1", "O2", ... are objections: their claim
            is that an exact example exists.
        title: the claim in a few words.
        setting: what only makes the terms defined (finite alphabets, nonzero vectors).
        claim: the formula, as text.
        source: where the claim comes from, with equation where there is one.
        evidence: "symbolic" (SymPy proves it for the family in `domain`), "shannon-lp" (proved
            for all distributions, certificate re-checked exactly), "exhaustive" (every case of
            `domain`) or "searched" (random instances and an optimiser). Where parts differ,
            the weakest.
        domain: what the evidence covers, in words.
        generate: draws an instance that meets every hypothesis.
        slack: how far the instance is from breaking the claim; it holds iff slack >= -tolerance.
        witness: an instance whose slack is smallest, as far as known.
        witness_slack: the witness's slack is at most this (0 up to rounding where it is tight).
        hypotheses: what the claim needs.
        superfluous: hypotheses that are often added and not needed, each with the reason.
        notes: what a reader should know, for example which weaker form is false.
        proof: runs the proof or the enumeration again; needed unless evidence is "searched".
        symbolic: builds the claim in SymPy, where it has such a form.
        search: parameters for the optimiser; needed if evidence is "searched", unless no
            parametrised family exists.
        tolerance: how negative a slack rounding alone may cause.

    Raises:
        ValueError: unknown evidence, a proof that is missing, hypotheses of the same name.

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
    proof: Callable[[], ProofCheck] | None = None
    symbolic: Callable[[], Any] | None = None
    search: Search | None = None
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        if self.evidence not in EVIDENCE:
            raise ValueError(
                f"{self.id}: unknown evidence '{self.evidence}'; choose from {', '.join(EVIDENCE)}"
            )
        if self.evidence != "searched" and self.proof is None:
            raise ValueError(f"{self.id}: evidence '{self.evidence}' needs a proof to run")
        names = [hypothesis.name for hypothesis in self.hypotheses]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.id}: hypotheses share a name: {', '.join(names)}")


@dataclass(frozen=True)
class HypothesisVerdict(Record):
    """Whether dropping a hypothesis was seen to break the claim.

    Attributes:
        name: of the hypothesis.
        counterexample_found: the counterexample violates this hypothesis, meets all others,
            and the claim fails on it.
        slack: the claim's slack there, negative if found.
        sentence: what happens there.
    """

    name: str
    counterexample_found: bool
    slack: float
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """What the verifier found out about one statement.

    Attributes:
        id: of the statement.
        evidence: of the statement, the weakest over its parts.
        domain: what the evidence covers.
        trials: instances checked, drawn and searched.
        worst_slack: the smallest slack met among them.
        holds: no violation, the proof (if any) went through, the witness is what it claims.
        hypotheses: for each, whether its counterexample was found.
        witness_slack: slack of the tightness witness.
        proof: what the proof consists of, or "".
        failures: what went wrong, each in a line; empty iff `holds`.
        seconds: time taken.

    Raises:
        ValueError: a `holds` that contradicts `failures`.

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
        """The claim holds and every hypothesis was shown to be needed."""
        return self.holds and all(found.counterexample_found for found in self.hypotheses)
