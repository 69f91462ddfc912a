"""Parses relations such as "I(X;Z) <= I(X;Y)" into linear combinations of joint entropies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from theory._validate import check_text

Subset = frozenset[str]

#: A linear combination of joint entropies: {{X, Y}: 2} is 2 H(X,Y). Terms are nonzero.
Combination = Mapping[Subset, Fraction]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:\s*/\s*\d+)?)|(?P<name>[^\W\d]\w*'*)"
    r"|(?P<relation><=|>=|==|=|≤|≥)|(?P<symbol>[-+*();|,]))"
)
#: Limits of one text: characters, nested parentheses, digits of a number, and groups of one I(...),
#: which is a sum over all subsets of its groups.
MAX_CHARACTERS = 10_000
MAX_DEPTH = 50
MAX_DIGITS = 100
MAX_GROUPS = 10

#: Characters of a text that an error shows.
_SHOWN = 160

_MEANING = {"≤": "<=", "≥": ">=", "==": "="}


class ExpressionError(ValueError):
    """Text that cannot be parsed; the message marks the position of the error.

    Example:
        >>> print(ExpressionError("H(X", 3, "expected ')'"))
        cannot read this at position 3: expected ')'
            H(X
               ^
    """

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.position = position
        if len(text) > _SHOWN:  # a window around the place
            start = max(0, min(position - _SHOWN // 2, len(text) - _SHOWN))
            text = f"...{text[start : start + _SHOWN]}..."
            pointer = " " * (position - start + 3) + "^"
        else:
            pointer = " " * position + "^"
        super().__init__(
            f"cannot read this at position {position}: {problem}\n    {text}\n    {pointer}"
        )


@dataclass(frozen=True)
class Relation:
    """A linear relation between entropies, with all terms on one side.

    Attributes:
        text: the relation as written.
        difference: linear combination related to 0.
        equality: whether the relation is `difference` = 0 rather than `difference` >= 0.
    """

    text: str
    difference: Combination
    equality: bool

    @property
    def variables(self) -> frozenset[str]:
        """Random variables that occur in the relation."""
        return frozenset().union(*self.difference)


def add(*terms: tuple[Fraction | int, Combination]) -> Combination:
    """Sum of (factor, combination) terms, without zero coefficients.

    Example:
        >>> x = {frozenset("X"): Fraction(1)}
        >>> add((2, x), (-2, x))
        {}
    """
    total: dict[Subset, Fraction] = {}
    for factor, combination in terms:
        for subset, weight in combination.items():
            total[subset] = total.get(subset, Fraction(0)) + factor * weight
    return {subset: weight for subset, weight in total.items() if weight}


def joint(of: Iterable[str], *, given: Iterable[str] = ()) -> Combination:
    """H(of | given) = H(of, given) - H(given).

    Example:
        >>> show(joint("X", given="Y"))
        '-H(Y) + H(X,Y)'
    """
    condition = frozenset(given)
    variables = condition.union(of)
    terms = [(1, {variables: Fraction(1)})] if variables else []
    if condition:
        terms.append((-1, {condition: Fraction(1)}))
    return add(*terms)


def mutual(groups: Iterable[Iterable[str]], *, given: Iterable[str] = ()) -> Combination:
    """I(A; B; ... | given), by inclusion-exclusion over joint entropies.

    Example:
        >>> show(mutual(["X", "Y"]))
        'H(X) + H(Y) - H(X,Y)'
    """
    parts = [frozenset(group) for group in groups]
    condition = frozenset(given)
    return add(
        *(
            ((-1) ** (size + 1), joint(frozenset().union(*subset), given=condition))
            for size in range(1, len(parts) + 1)
            for subset in combinations(parts, size)
        )
    )


def show(combination: Combination) -> str:
    """The combination as text, smaller sets first.

    Example:
        >>> show({frozenset("XY"): Fraction(-1, 2), frozenset("X"): Fraction(1)})
        'H(X) - 1/2 H(X,Y)'
    """
    if not combination:
        return "0"
    text = ""
    for subset in sorted(combination, key=lambda s: (len(s), sorted(s))):
        weight = combination[subset]
        sign = (" - " if weight < 0 else " + ") if text else ("-" if weight < 0 else "")
        factor = "" if abs(weight) == 1 else f"{abs(weight)} "
        text += f"{sign}{factor}H({','.join(sorted(subset))})"
    return text


def parse_relation(text: str) -> Relation:
    """Parse a linear equality or inequality between Shannon quantities.

    Terms are H(X,Y|Z), I(X;Y|Z), the interaction information I(X;Y;Z) and 0. They can have
    rational coefficients (2, 0.5, 1/2) and be grouped by parentheses. The relation is <=, >= or
    =. Variables are names such as X, T_0 and X'; H(XY) is the entropy of one variable XY.

    Raises:
        TypeError: not a text.
        ExpressionError: the text is not such a relation; the message marks the position.

    Example:
        >>> show(parse_relation("I(X;Z) <= I(X;Y)").difference)
        'H(Y) - H(Z) - H(X,Y) + H(X,Z)'
    """
    return _Reader(check_text(text, "text", '"I(X;Z) <= I(X;Y)"')).relation()


class _Reader:
    """Recursive-descent parser of one text."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARACTERS:
            raise ExpressionError(
                text[:40] + "...", 0, f"it has {len(text)} characters, at most {MAX_CHARACTERS}"
            )
        self.text, self.depth = text, 0
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                start = position + len(text[position:]) - len(text[position:].lstrip())
                raise ExpressionError(text, start, f"unexpected '{text[start]}'")
            kind = str(match.lastgroup)
            value = _MEANING.get(match[kind], match[kind])
            if kind == "number" and len(value) > MAX_DIGITS:
                problem = f"a number of {len(value)} characters, at most {MAX_DIGITS}"
                raise ExpressionError(text, match.start(kind), problem)
            self.tokens.append((kind, value, match.start(kind)))
            position = match.end()
        self.tokens.append(("end", "", len(text.rstrip())))
        self.index = 0

    def peek(self) -> str:
        return self.tokens[self.index][1]

    def kind(self) -> str:
        return self.tokens[self.index][0]

    def take(self) -> str:
        self.index += 1
        return self.tokens[self.index - 1][1]

    def fail(self, expected: str) -> ExpressionError:
        kind, value, position = self.tokens[self.index]
        actual = "the end" if kind == "end" else f"'{value}'"
        return ExpressionError(self.text, position, f"expected {expected}, found {actual}")

    def expect(self, value: str) -> None:
        if self.peek() != value:
            raise self.fail(f"'{value}'")
        self.take()

    def relation(self) -> Relation:
        left = self.sum()
        if self.kind() != "relation":
            raise self.fail("'<=', '>=' or '='")
        sign = self.take()
        right = self.sum()
        if self.kind() != "end":
            raise self.fail("the end or an operator")
        flip = -1 if sign == "<=" else 1
        return Relation(self.text.strip(), add((flip, left), (-flip, right)), sign == "=")

    def sum(self) -> Combination:
        terms: list[tuple[Fraction | int, Combination]] = []
        sign = {"-": -1, "+": 1}.get(self.peek())
        if sign is not None:
            self.take()
        terms.append((sign or 1, self.product()))
        while self.peek() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            terms.append((sign, self.product()))
        return add(*terms)

    def product(self) -> Combination:
        if self.kind() != "number":
            return self.atom()
        _, digits, position = self.tokens[self.index]
        numerator, _, denominator = digits.replace(" ", "").partition("/")
        if denominator and not int(denominator):
            raise ExpressionError(self.text, position, "division by zero")
        factor = Fraction(numerator) / int(denominator or 1)
        self.take()
        if self.peek() == "*":
            self.take()
        elif self.peek() not in ("H", "I", "("):
            if factor:
                problem = "a constant other than 0 has no place among entropies"
                raise ExpressionError(self.text, position, problem)
            return {}
        return add((factor, self.atom()))

    def atom(self) -> Combination:
        name = self.peek()
        if name == "(":
            if self.depth == MAX_DEPTH:
                raise self.fail(f"at most {MAX_DEPTH} nested parentheses")
            self.depth += 1
            self.take()
            inner = self.sum()
            self.expect(")")
            self.depth -= 1
            return inner
        if name not in ("H", "I"):
            raise self.fail("H(...), I(...), a number or '('")
        self.take()
        self.expect("(")
        groups = [self.group()]
        while name == "I" and self.peek() == ";":
            self.take()
            groups.append(self.group())
            if len(groups) > MAX_GROUPS:
                raise self.fail(f"at most {MAX_GROUPS} groups in one I(...)")
        if name == "I" and len(groups) < 2:
            raise self.fail("';' and a second group")
        given: list[str] = []
        if self.peek() == "|":
            self.take()
            given = self.group()
        self.expect(")")
        return joint(groups[0], given=given) if name == "H" else mutual(groups, given=given)

    def group(self) -> list[str]:
        names = []
        while True:
            if self.kind() != "name":
                raise self.fail("the name of a variable")
            names.append(self.take())
            if self.peek() != ",":
                return names
            self.take()
