"""The registry: every file in this folder with a `STATEMENT` is one statement.

Adding a statement is adding a file; nothing else needs to know. Names that start with an
underscore are helpers. A file is called after its id and its claim, `s4a_error_from_entropy.py`,
and imports `theory.statement`, `theory.pmf` and other modules of `theory`, never this package.
What the verifier then demands of it:

- every drawn instance, the witness, and each counterexample meet the hypotheses they should
  (`Hypothesis.holds` says so on the instance itself, so instances carry what it needs);
- the slack is >= -tolerance on all of them but the counterexamples, where it is negative;
- the proof, run again, goes through; exhaustive proofs name their domain.

An objection ("O1", ...) claims that an exact example exists: its instances are such examples,
its slack is by how much they make the point (for example, the largest change they must not
have, minus the change they have).

Example:
    >>> from theory import statements
    >>> statements.get("S4a").title
    'few nats left about the answer, few errors'
    >>> statements.verify("S4a", trials=20).holds
    True
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from functools import cache

from theory.statement import Statement, Verdict
from theory.verifier import verify_statement

#: Geometric, proximal, functional, informational: from the first to the last claim.
CHAIN = ("G-P", "G-F", "P-F", "P-I", "I-F")


@cache
def _registry() -> dict[str, Statement]:
    found: dict[str, Statement] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        statement = importlib.import_module(f"{__name__}.{module.name}").STATEMENT
        if statement.id in found:
            raise ValueError(f"two files state {statement.id}; one of them is {module.name}.py")
        found[statement.id] = statement
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(name: str) -> tuple[int, str, int, str]:
    """The four notions in the order of their chain, then S1 to S15, then the objections."""
    letters, number, rest = re.fullmatch(r"([A-Z]+(?:-[A-Z])?)(\d*)(\w*)", name).groups()  # type: ignore[union-attr]
    rank = CHAIN.index(letters) if letters in CHAIN else len(CHAIN) + "SO".find(letters)
    return rank, letters, int(number or 0), rest


def ids() -> tuple[str, ...]:
    """The ids of all statements, in reading order.

    Example:
        >>> "S4a" in ids()
        True
    """
    return tuple(_registry())


def get(name: str) -> Statement:
    """The statement with an id.

    Raises:
        ValueError: no such statement; the message lists those there are.

    Example:
        >>> get("S4a").evidence
        'symbolic'
    """
    try:
        return _registry()[name]
    except KeyError:
        raise ValueError(f"no statement '{name}'; there are {', '.join(ids())}") from None


def verify(name: str, *, trials: int = 1000, seed: int = 0) -> Verdict:
    """Check one statement again: proof, witness, hypotheses, `trials` instances.

    Raises:
        ValueError: no such statement, trials below 1.

    Example:
        >>> verify("S4a", trials=20).holds
        True
    """
    return verify_statement(get(name), trials=trials, seed=seed)


def verify_all(
    names: Iterable[str] | None = None,
    *,
    trials: int = 1000,
    seed: int = 0,
    before: Callable[[Statement], None] | None = None,
) -> list[Verdict]:
    """Check all statements, or those named, in reading order.

    Args:
        names: ids; None for all.
        trials: instances for each, at least 1.
        seed: fixes the instances.
        before: called with each statement before it is checked, for example to show progress.

    Raises:
        ValueError: no such statement, trials below 1.

    Example:
        >>> [verdict.holds for verdict in verify_all(["S4a"], trials=20)]
        [True]
    """
    chosen = [get(name) for name in (ids() if names is None else names)]
    verdicts = []
    for statement in chosen:
        if before is not None:
            before(statement)
        verdicts.append(verify_statement(statement, trials=trials, seed=seed))
    return verdicts
