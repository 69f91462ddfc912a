"""Registry of statements: each module of this package defines one `STATEMENT`.

A new module is registered automatically; modules whose names start with an underscore are helpers.
A module is named after the id and the claim of its statement, such as `s4a_error_from_entropy.py`,
and does not import this package. The verifier requires that

- all drawn instances and the witness meet all hypotheses, and each counterexample meets all
  hypotheses but its own (`Hypothesis.holds` decides from the instance alone);
- the slack is at least -tolerance on drawn instances and the witness, and below it on
  counterexamples;
- the proof succeeds; an exhaustive proof states its domain.

An objection ("O1", ...) claims that an example exists. Its instances are such examples, and the
slack is the margin by which the example satisfies the claim.

Example:
    >>> from theory import statements
    >>> statements.get("S4a").title
    'a small conditional entropy implies a small Bayes error'
    >>> statements.verify("S4a", trials=20).holds
    True
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from functools import cache

from theory._validate import check_count, check_text, check_texts, shown
from theory.statement import Statement, Verdict
from theory.verifier import verify_statement

#: Claims that link the geometric, proximal, functional and informational notions, in order.
CHAIN = ("G-P", "G-F", "P-F", "P-I", "I-F")


@cache
def _registry() -> dict[str, Statement]:
    """All statements by id, in reading order."""
    registry: dict[str, Statement] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        statement = importlib.import_module(f"{__name__}.{module.name}").STATEMENT
        if statement.id in registry:
            raise ValueError(f"two files state {statement.id}; one of them is {module.name}.py")
        registry[statement.id] = statement
    return dict(sorted(registry.items(), key=lambda item: _order(item[0])))


def _order(name: str) -> tuple[int, str, int, str]:
    """Sort key: the chain of notions, then S1 to S19, then the objections."""
    letters, number, rest = re.fullmatch(r"([A-Z]+(?:-[A-Z])?)(\d*)(\w*)", name).groups()  # type: ignore[union-attr]
    rank = CHAIN.index(letters) if letters in CHAIN else len(CHAIN) + "SO".find(letters)
    return rank, letters, int(number or 0), rest


def ids() -> tuple[str, ...]:
    """Ids of all statements, in reading order.

    Example:
        >>> "S4a" in ids()
        True
    """
    return tuple(_registry())


def get(name: str) -> Statement:
    """Statement by id.

    Raises:
        TypeError: the name is no text.
        ValueError: unknown statement; the message lists all ids.

    Example:
        >>> get("S4a").evidence
        'symbolic'
    """
    check_text(name, "name", '"S9"')
    try:
        return _registry()[name]
    except KeyError:
        raise ValueError(f"no statement '{name}'; there are {', '.join(ids())}") from None


def verify(name: str, *, trials: int = 1000, seed: int = 0) -> Verdict:
    """Check one statement: proof, witness, hypotheses and `trials` instances.

    Raises:
        ValueError: unknown statement, or trials below 1.

    Example:
        >>> verify("S4a", trials=20).holds
        True
    """
    return verify_statement(get(name), trials=trials, seed=seed)


def verify_all(
    names: Sequence[str] | None = None,
    *,
    trials: int = 1000,
    seed: int = 0,
    before: Callable[[Statement], None] | None = None,
) -> list[Verdict]:
    """Check all statements in reading order, or the named statements in the given order.

    Args:
        names: ids of statements; None means all.
        trials: number of instances per statement, at least 1.
        seed: seed of the instances.
        before: callback for each statement before it is checked, for example to show progress.

    Raises:
        TypeError: names are not several ids.
        ValueError: unknown statement, or trials below 1.

    Example:
        >>> [verdict.holds for verdict in verify_all(["S4a"], trials=20)]
        [True]
    """
    if isinstance(names, str):
        raise TypeError(f"names must be several ids such as ['S9'], got {shown(names)}")
    wanted = ids() if names is None else check_texts(names, "names", '"S9"')
    selected = [get(name) for name in wanted]
    check_count(trials, "trials")
    verdicts = []
    for statement in selected:
        if before is not None:
            before(statement)
        verdicts.append(verify_statement(statement, trials=trials, seed=seed))
    return verdicts
