"""Questions about a scene of objects, each with one right answer of one word."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
#: Pixels between two centres from which on a question may ask about their order.
_APART = 8
_PER_SCENE = 8

Pair = tuple[str, str]


@dataclass(frozen=True)
class Thing:
    """One object of a scene: its centre and radius in pixels, and its dot's colour, if any."""

    shape: str
    colour: str
    x: int
    y: int
    radius: int
    dot: str | None = None


def ask(things: Sequence[Thing], draw: random.Random) -> list[Pair]:
    """Up to eight different questions with their answers, taken from each kind in turn.

    An object that a question names ("the circle") is in the scene exactly once. Yes and no are
    equally likely for every wording.
    """
    pools = [list(kind(things)) for kind in (_counts, _relations, _colours, _dots, _shapes)]
    for pool in pools:
        draw.shuffle(pool)
    asked: dict[str, str] = {}
    while any(pools) and len(asked) < _PER_SCENE:
        for pool in pools:
            if pool and len(asked) < _PER_SCENE:
                question, answer = pool.pop()
                asked[question] = answer
    return list(asked.items())


def _counts(things: Sequence[Thing]) -> Iterator[Pair]:
    shapes, colours = Counter(t.shape for t in things), Counter(t.colour for t in things)
    yield "how many objects are there?", NUMBERS[len(things)]
    for shape in ("circle", "square", "triangle", "cross"):
        word = "crosses" if shape == "cross" else f"{shape}s"
        yield f"how many {word} are there?", NUMBERS[shapes[shape]]
    for colour in colours:
        yield f"how many {colour} objects are there?", NUMBERS[colours[colour]]


def _relations(things: Sequence[Thing]) -> Iterator[Pair]:
    for (first, a), (second, b) in itertools.product(_names(things).items(), repeat=2):
        for word, near, far in (("left of", a.x, b.x), ("above", a.y, b.y)):
            if a is not b and abs(near - far) >= _APART:
                yield f"is the {first} {word} the {second}?", "yes" if near < far else "no"


def _colours(things: Sequence[Thing]) -> Iterator[Pair]:
    for shape, thing in _once(things, "shape").items():
        yield f"what color is the {shape}?", thing.colour


def _shapes(things: Sequence[Thing]) -> Iterator[Pair]:
    for colour, thing in _once(things, "colour").items():
        yield f"what shape is the {colour} object?", thing.shape


def _dots(things: Sequence[Thing]) -> Iterator[Pair]:
    for name, thing in _names(things).items():
        if thing.dot is not None:
            yield f"what color is the dot in the {name}?", thing.dot


def _once(things: Sequence[Thing], by: str) -> dict[str, Thing]:
    """Value of an attribute -> the only object that has it."""
    counts = Counter(getattr(thing, by) for thing in things)
    return {getattr(t, by): t for t in things if counts[getattr(t, by)] == 1}


def _names(things: Sequence[Thing]) -> dict[str, Thing]:
    """Every way to name one object of the scene by its shape or by its colour alone."""
    by_colour = {f"{name} object": t for name, t in _once(things, "colour").items()}
    return {**_once(things, "shape"), **by_colour}
