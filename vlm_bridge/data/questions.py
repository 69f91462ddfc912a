"""Questions about a scene, each with one right answer of one word."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
#: How far apart two middles are, in pixels, before their order is asked about.
_APART = 8
_PER_SCENE = 8


class Thing(Protocol):
    """What a question needs to know of an object."""

    @property
    def shape(self) -> str: ...  # noqa: D102
    @property
    def colour(self) -> str: ...  # noqa: D102
    @property
    def x(self) -> int: ...  # noqa: D102
    @property
    def y(self) -> int: ...  # noqa: D102
    @property
    def dot(self) -> str | None: ...  # noqa: D102


Pair = tuple[str, str]


def ask(things: Sequence[Thing], draw: random.Random) -> list[Pair]:
    """Up to eight different questions with their answers, kinds in turn.

    Whatever a question names ("the circle") is in the scene exactly once. Yes and no are
    equally likely, whatever the question's words.
    """
    kinds: list[Callable[[Sequence[Thing], random.Random], Iterator[Pair]]]
    kinds = [_counts, _relations, _colours, _dots, _shapes]
    pools = []
    for kind in kinds:
        pool = list(kind(things, draw))
        draw.shuffle(pool)
        pools.append(pool)
    asked: dict[str, str] = {}
    while any(pools) and len(asked) < _PER_SCENE:
        for pool in pools:
            if pool and len(asked) < _PER_SCENE:
                question, answer = pool.pop()
                asked[question] = answer
    return list(asked.items())


def _counts(things: Sequence[Thing], draw: random.Random) -> Iterator[Pair]:
    shapes, colours = Counter(t.shape for t in things), Counter(t.colour for t in things)
    yield "how many objects are there?", NUMBERS[len(things)]
    for shape in ("circle", "square", "triangle", "cross"):
        word = "crosses" if shape == "cross" else f"{shape}s"
        yield f"how many {word} are there?", NUMBERS[shapes[shape]]
    for colour in colours:
        yield f"how many {colour} objects are there?", NUMBERS[colours[colour]]


def _relations(things: Sequence[Thing], draw: random.Random) -> Iterator[Pair]:
    named = [(name, t) for name, t in _names(things).items()]
    for first, a in named:
        for second, b in named:
            if a is b:
                continue
            for word, near, far in (("left of", a.x, b.x), ("above", a.y, b.y)):
                if abs(near - far) >= _APART:
                    yield f"is the {first} {word} the {second}?", "yes" if near < far else "no"


def _colours(things: Sequence[Thing], draw: random.Random) -> Iterator[Pair]:
    for shape, thing in _once(things, "shape").items():
        yield f"what color is the {shape}?", thing.colour


def _shapes(things: Sequence[Thing], draw: random.Random) -> Iterator[Pair]:
    for colour, thing in _once(things, "colour").items():
        yield f"what shape is the {colour} object?", thing.shape


def _dots(things: Sequence[Thing], draw: random.Random) -> Iterator[Pair]:
    for name, thing in _names(things).items():
        if thing.dot is not None:
            yield f"what color is the dot in the {name}?", thing.dot


def _once(things: Sequence[Thing], by: str) -> dict[str, Thing]:
    """Value of an attribute -> the object that alone has it."""
    counts = Counter(getattr(thing, by) for thing in things)
    return {getattr(t, by): t for t in things if counts[getattr(t, by)] == 1}


def _names(things: Sequence[Thing]) -> dict[str, Thing]:
    """Every way to name one object of the scene by its shape or by its colour alone."""
    by_colour = {f"{name} object": t for name, t in _once(things, "colour").items()}
    return {**_once(things, "shape"), **by_colour}
