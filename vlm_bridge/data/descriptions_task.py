"""Descriptions of the generated scenes: answers of one to 39 words about the same pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlm_bridge.data.items import Item
from vlm_bridge.data.questions import NUMBERS, Pair, Thing
from vlm_bridge.data.scenes_task import CELLS, SCENES_SPLITS, SIDE, drawn, scene
from vlm_bridge.errors import BridgeError

#: split -> number of scenes; the pictures are those of `scenes`
DESCRIPTIONS_SPLITS = {
    split: count for split, count in SCENES_SPLITS.items() if split != "confirmation"
}
#: Words and marks of the questions and answers that no other task set has.
WORDS = tuple(
    "describe picture it sentence top bottom right at and with first last nothing , .".split()
)
WHOLE, SENTENCE = "describe the picture.", "describe it in one sentence."
_QUARTERS = tuple((row, side) for row in ("top", "bottom") for side in ("left", "right"))


def descriptions(split: str) -> list[Item]:
    """Three items for each scene of one of `DESCRIPTIONS_SPLITS`, ordered by scene.

    Each answer follows from the picture and the question alone: the whole picture in 25 to 39
    words, all objects in one sentence of 11 to 23 words, and one quarter of the picture.

    Raises:
        BridgeError: unknown split, or the cache cannot be written.

    Example:
        >>> for item in descriptions("test")[3:5]: print(item.answer)
        there are two objects, a green triangle at the top right and a purple circle with a blue
        dot at the top right. the first is above the last.
        a green triangle and a purple circle are in the picture.
    """
    if split not in DESCRIPTIONS_SPLITS:
        raise BridgeError(
            f"descriptions has no split '{split}'; it has {', '.join(DESCRIPTIONS_SPLITS)}"
        )
    folder = drawn(split)
    return [
        Item(folder / f"{number}.png", question, answer, f"{split}/{number}")
        for number in range(DESCRIPTIONS_SPLITS[split])
        for question, answer in describe(scene(split, number), number % len(_QUARTERS))
    ]


def describe(things: Sequence[Thing], quarter: int) -> Iterator[Pair]:
    """Three questions with their answers: the picture, one sentence, one of its four quarters.

    Objects are named in reading order, by the row and then the column of their cells. Two or three
    objects are described with their dots and places, four with their places, and where there are
    two, five or six the last sentence says how the first lies to the last.
    """
    ordered = sorted(things, key=_cell)
    count = len(ordered)
    named = [
        _named(thing, dots=count < 4)
        + (f" at the {' '.join(_quarter(thing))}" if count < 5 else "")
        for thing in ordered
    ]
    whole = f"there are {NUMBERS[count]} objects, {_listed(named)}."
    if count not in (3, 4):
        same_row = _cell(ordered[0])[0] == _cell(ordered[-1])[0]
        whole += f" the first is {'left of' if same_row else 'above'} the last."
    yield WHOLE, whole
    yield SENTENCE, f"{_listed([_named(t, dots=False) for t in ordered])} are in the picture."
    asked = _QUARTERS[quarter]
    inside = [_named(thing, dots=True) for thing in ordered if _quarter(thing) == asked]
    yield f"describe the {' '.join(asked)}.", _listed(inside) if inside else "nothing"


def _cell(thing: Thing) -> tuple[int, int]:
    """Row and column of the cell of an object."""
    return thing.y * CELLS // SIDE, thing.x * CELLS // SIDE


def _quarter(thing: Thing) -> tuple[str, str]:
    row, column = (2 * at // CELLS for at in _cell(thing))
    return _QUARTERS[2 * row + column]


def _named(thing: Thing, *, dots: bool) -> str:
    dot = f" with a {thing.dot} dot" if dots and thing.dot is not None else ""
    return f"a {thing.colour} {thing.shape}{dot}"


def _listed(names: Sequence[str]) -> str:
    """Names with commas between them, and `and` before the last."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
