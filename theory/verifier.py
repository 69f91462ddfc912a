"""Checks a statement: its proof, witness, hypotheses and random or optimised instances."""

from __future__ import annotations

import math
import time
import zlib

import numpy as np

from theory._validate import check_count, shown
from theory.adversary import minimise, shrink
from theory.statement import (
    Counterexample,
    Hypothesis,
    HypothesisVerdict,
    Instance,
    Statement,
    Verdict,
)


def verify_statement(statement: Statement, *, trials: int = 1000, seed: int = 0) -> Verdict:
    """Check the proof, the witness and the hypotheses of a statement, and `trials` instances.

    If the statement has a `search`, half of the instances are drawn by `generate` and half are
    evaluations of an optimiser; otherwise all are drawn. A violation found by the optimiser is
    simplified before it is reported.

    Args:
        statement: statement to check; need not be registered.
        trials: number of instances, at least 1.
        seed: seed of the instances; each statement has its own random stream.

    Raises:
        TypeError: not a statement; a registered one is checked by `statements.verify(id)`.
        ValueError: trials is below 1, or the seed is negative.

    Example:
        >>> claim = Statement(
        ...     id="X1", title="squares", setting="x real", claim="x^2 >= x", source="wrong",
        ...     evidence="searched", domain="x in [-1, 1]",
        ...     generate=lambda rng: rng.uniform(-1, 1), slack=lambda x: x * x - x,
        ...     witness=lambda: 1.0,
        ... )
        >>> verify_statement(claim, trials=50).holds
        False
    """
    if not isinstance(statement, Statement):
        raise TypeError(
            f"statement must be a Statement, got {shown(statement)}; check a registered one by its "
            'id with theory.statements.verify("S9")'
        )
    check_count(trials, "trials")
    check_count(seed, "seed", least=0)
    start = time.perf_counter()
    rng = np.random.default_rng([seed, zlib.crc32(statement.id.encode())])
    failures: list[str] = []
    proof = ""
    if statement.proof is not None:
        check = statement.proof(statement.formulas)
        proof = check.detail
        if not check.proved:
            failures.append(f"the proof does not go through: {check.detail}")
    witness_slack = _check_witness(statement, failures)
    evaluations = trials // 2 if statement.search is not None else 0
    worst = _draw(statement, trials - evaluations, rng, failures)
    if evaluations:
        worst = min(worst, _attack(statement, evaluations, rng, failures))
    return Verdict(
        id=statement.id,
        evidence=statement.evidence,
        domain=statement.domain,
        trials=trials,
        worst_slack=worst,
        holds=not failures,
        hypotheses=tuple(_drop(statement, dropped) for dropped in statement.hypotheses),
        witness_slack=witness_slack,
        proof=proof,
        failures=tuple(failures),
        seconds=time.perf_counter() - start,
    )


def _slack(statement: Statement, instance: Instance) -> float:
    """Slack of an instance; NaN counts as a violation."""
    slack = float(statement.slack(instance))
    return -math.inf if math.isnan(slack) else slack


def _unmet(statement: Statement, instance: Instance, dropped: str = "") -> list[str]:
    """Names of the hypotheses that an instance violates, without the dropped hypothesis."""
    return [h.name for h in statement.hypotheses if h.name != dropped and not h.holds(instance)]


def _check_witness(statement: Statement, failures: list[str]) -> float:
    """Slack of the witness; adds its defects to `failures`."""
    witness = statement.witness()
    slack = _slack(statement, witness)
    if unmet := _unmet(statement, witness):
        failures.append(f"the witness does not meet: {', '.join(unmet)}")
    if slack < -statement.tolerance:
        failures.append(f"the claim fails on its witness, slack {slack:.3g}")
    if slack > statement.witness_slack:
        failures.append(f"the witness has slack {slack:.3g}, not <= {statement.witness_slack:.3g}")
    return slack


def _draw(statement: Statement, count: int, rng: np.random.Generator, failures: list[str]) -> float:
    """Smallest slack of `count` drawn instances; adds violations to `failures`."""
    worst = math.inf
    violation: Instance = None
    unmet: set[str] = set()
    for _ in range(count):
        instance = statement.generate(rng)
        unmet.update(_unmet(statement, instance))
        slack = _slack(statement, instance)
        if slack < worst:
            worst, violation = slack, instance
    if unmet:
        failures.append(f"drawn instances do not meet: {', '.join(sorted(unmet))}")
    if worst < -statement.tolerance:
        failures.append(f"violated by a drawn instance, slack {worst:.3g}: {violation!r}")
    return worst


def _attack(
    statement: Statement, evaluations: int, rng: np.random.Generator, failures: list[str]
) -> float:
    """Smallest slack found by the optimiser; adds violations to `failures`."""
    search = statement.search
    assert search is not None
    best, worst = minimise(
        lambda vector: _slack(statement, search.decode(vector)),
        search.dimension,
        evaluations,
        rng,
    )
    if unmet := _unmet(statement, search.decode(best)):
        failures.append(f"searched instances do not meet: {', '.join(unmet)}")
    if worst < -statement.tolerance:
        best = shrink(
            best, lambda vector: _slack(statement, search.decode(vector)) < -statement.tolerance
        )
        shrunk = search.decode(best)
        failures.append(
            f"violated by a searched instance, slack {worst:.3g}; "
            f"shrunk, with slack {_slack(statement, shrunk):.3g}: {shrunk!r}"
        )
    return worst


def _drop(statement: Statement, dropped: Hypothesis) -> HypothesisVerdict:
    """Whether the counterexample violates the claim and, of the hypotheses, only the dropped."""
    counterexample: Counterexample = dropped.counterexample()
    instance = counterexample.instance
    slack = _slack(statement, instance)
    violates = slack < -statement.tolerance
    only_dropped = not dropped.holds(instance) and not _unmet(statement, instance, dropped.name)
    return HypothesisVerdict(
        dropped.name, violates and only_dropped, slack, counterexample.sentence
    )
