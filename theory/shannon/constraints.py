"""Parses constraints on random variables as linear relations between their entropies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from theory._validate import check_texts
from theory.shannon.expression import (
    MAX_CHARACTERS,
    Combination,
    ExpressionError,
    Relation,
    add,
    joint,
    mutual,
    parse_relation,
)

_NAME = r"[^\W\d]\w*'*"
_GROUP = re.compile(rf"\s*\(?\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)?\s*")
_FUNCTION = re.compile(rf"\s*({_NAME}(?:\s*,\s*{_NAME})*)\s*=\s*({_NAME})\s*\(([^()]*)\)\s*")
_INDEPENDENT = re.compile(r"_\|_|⊥")
_ARROW = re.compile(r"->|→")


def parse_constraints(given: str | Sequence[str]) -> tuple[Relation, ...]:
    """Parse constraints from one or more strings; "and" separates constraints in a string.

        X -> Y -> Z          Markov chain of any length: I(X; Z | Y) = 0
        Z = f(X,Y)           Z is a function of (X, Y): H(Z | X,Y) = 0
        X _|_ Y | Z          conditional independence of two or more groups: I(X; Y | Z) = 0
        H(X) = H(Y), ...     any linear equality or inequality between entropies

    Raises:
        TypeError: not a text or a sequence of texts.
        ExpressionError: a constraint has another form; the message marks the position.

    Example:
        >>> [c.text for c in parse_constraints("X -> Y -> Z and W = f(X,Y)")]
        ['X -> Y -> Z', 'W = f(X,Y)']
    """
    texts = [given] if isinstance(given, str) else check_texts(given, "given", '"X -> Y -> Z"')
    parts = [part for text in texts for part in re.split(r"\band\b", text)]
    if any(not part.strip() for part in parts) and parts != [""]:
        raise ExpressionError(" and ".join(texts), 0, "one of the constraints is empty")
    return tuple(_parse_one(part.strip()) for part in parts if part.strip())


def _parse_one(text: str) -> Relation:
    """Relation expressed by one constraint."""
    if len(text) > MAX_CHARACTERS:
        problem = f"it has {len(text)} characters, at most {MAX_CHARACTERS}"
        raise ExpressionError(text[:40] + "...", 0, problem)
    if _ARROW.search(text):
        return Relation(text, _markov(text), equality=True)
    if _INDEPENDENT.search(text):
        return Relation(text, _independent(text), equality=True)
    function = _FUNCTION.fullmatch(text)
    if function:
        if function[2] in ("H", "I"):
            problem = f"'{function[2]}' means an entropy here; call the function f"
            raise ExpressionError(text, function.start(2), problem)
        arguments = _group(text, function[3], function.start(3))
        return Relation(
            text, joint(_group(text, function[1], function.start(1)), given=arguments), True
        )
    return parse_relation(text)


def _split(text: str, separator: re.Pattern[str]) -> list[list[str]]:
    """Groups of variables between separators."""
    groups, start = [], 0
    for match in [*separator.finditer(text), None]:
        end = match.start() if match else len(text)
        groups.append(_group(text, text[start:end], start))
        start = match.end() if match else end
    return groups


def _group(text: str, part: str, position: int) -> list[str]:
    """Names of the variables in one group."""
    if not _GROUP.fullmatch(part) or part.count("(") != part.count(")"):
        indent = len(part) - len(part.lstrip())
        raise ExpressionError(text, position + indent, "expected names of variables")
    return re.findall(_NAME, part)


def _markov(text: str) -> Combination:
    """Sum over k of I(X_1..X_{k-1}; X_{k+1} | X_k), which is 0 iff every term is 0."""
    chain = _split(text, _ARROW)
    if len(chain) < 3:
        raise ExpressionError(text, len(text), "a Markov chain has at least three links")
    past: list[str] = []
    terms = []
    for before, (now, after) in zip(chain, pairwise(chain[1:]), strict=False):
        past += before
        terms.append((1, mutual([past, after], given=now)))
    return add(*terms)


def _independent(text: str) -> Combination:
    """Sum of H(X_i | Z) minus the joint entropy H(X_1, X_2, ... | Z)."""
    body, bar, condition = re.sub(r"_\|_", "_!_", text).partition("|")
    given = _group(text, condition, len(body) + 1) if bar else []
    groups = _split(body.replace("_!_", "_|_"), _INDEPENDENT)
    everything = [name for group in groups for name in group]
    return add(
        *((1, joint(group, given=given)) for group in groups),
        (-1, joint(everything, given=given)),
    )
