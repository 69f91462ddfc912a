"""What simple guesses reach on the tasks of photos-smollm2 and speech-smollm2.

    python -m benchmarks.shortcuts --json

Photos: the blind guess from the text, and the product of the nearest of 6,000 training photos in
pixels. Recordings: the blind guess, and yes or no by the length of the recording alone, with the
length that is best on the training questions. Test questions, 95 % by unit. And how many of the
test sentences are nearly one of another split: at most one word in five differs (word edit
distance over the longer sentence's words). Needs fetched data.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import _help
from estimators import Estimate
from vlm_bridge.data import SPLITS, TASKS, Item, limit_per_image
from vlm_bridge.evaluate.baselines import accuracy, blind_answers
from vlm_bridge.evaluate.word_errors import wrong_words

#: Training photos of photos-smollm2.
PHOTOS = 6_000


def by_length(training: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """Say yes of long recordings; the limit is that which is right most often in training."""
    lengths, said = seconds(training), np.array([item.answer == "yes" for item in training])
    limits = np.unique(lengths)
    best = limits[np.argmax([((lengths >= limit) == said).mean() for limit in limits])]
    return ["yes" if length >= best else "no" for length in seconds(items)]


def seconds(items: Sequence[Item]) -> Any:
    """(n,) lengths of the recordings."""
    found = []
    for item in items:
        with wave.open(str(item.audio)) as clip:
            found.append(clip.getnframes() / clip.getframerate())
    return np.array(found)


def by_pixels(training: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """The answer of the nearest training photo, by squared distance of pixels."""
    known, asked = pixels(training), pixels(items)
    lengths = (known**2).sum(1)
    nearest = [int((lengths - 2 * known @ row).argmin()) for row in asked]
    return [str(training[place].answer) for place in nearest]


def pixels(items: Sequence[Item]) -> Any:
    """(n, pixels) float32."""
    rows = []
    for item in items:
        with Image.open(str(item.image)) as photo:
            rows.append(np.asarray(photo, np.float32).ravel() / 255)
    return np.stack(rows)


def rows() -> list[dict[str, Any]]:
    """Every guess with its accuracy."""
    found = []

    def add(task: str, questions: str, guess: str, texts: list[str], items: list[Item]) -> None:
        right: Estimate = accuracy(texts, items)
        low, high = right.interval
        row = {"task": task, "questions": questions, "guess": guess, "right": right.value}
        found.append({**row, "low": low, "high": high, "units": right.n, "n": len(items)})

    for task in ("fashion-photos", "spoken-words"):
        training, test = TASKS[task]("train"), TASKS[task]("test")
        if task == "fashion-photos":
            test = limit_per_image(test, 1)
        blind = dict(zip(map(id, test), blind_answers(training, test), strict=True))
        for form in ("", *sorted({item.question.split()[0] for item in test})):
            some = [item for item in test if item.question.startswith(form)]
            add(task, form or "all", "blind", [blind[id(item)] for item in some], some)
    photos, asked = (
        [item for item in TASKS["fashion-photos"](split) if item.question == "what is it?"]
        for split in ("train", "test")
    )
    guesses = by_pixels(photos[:PHOTOS], asked)
    add("fashion-photos", "what", "nearest training photo in pixels", guesses, asked)
    own = [i for i in limit_per_image(TASKS["fashion-photos"]("test"), 1) if i in set(asked)]
    guesses = by_pixels(photos[:PHOTOS], own)
    add("fashion-photos", "what, as asked of photos-smollm2", "nearest in pixels", guesses, own)
    heard, test = (
        [item for item in TASKS["spoken-words"](split) if item.question.startswith("is ")]
        for split in ("train", "test")
    )
    add("spoken-words", "is", "length of the recording", by_length(heard, test), test)
    return found


def near_duplicates(test: Sequence[Item], others: Sequence[Item]) -> dict[str, int]:
    """How many sentences of `test` are nearly one of `others`; clusters are the sentences."""
    asked, known = (
        [cluster.split() for cluster in dict.fromkeys(item.cluster for item in items)]
        for items in (test, others)
    )
    near = sum(
        any(wrong_words(said, other) * 5 <= max(len(said), len(other)) for other in known)
        for said in asked
    )
    return {"sentences": len(asked), "near": near}


def repeated() -> dict[str, dict[str, int]]:
    """`near_duplicates` of the test sentences of both tasks with recordings."""
    found = {}
    for task in ("spoken-prompts", "spoken-words"):
        others = [split for split in SPLITS[task] if split != "test"]
        items = [item for split in others for item in TASKS[task](split)]
        found[task] = near_duplicates(TASKS[task]("test"), items)
    return found


def main() -> None:
    """Print the guesses."""
    parser = _help.parser("shortcuts", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="JSON")
    if parser.parse_args().json:
        print(json.dumps({"rows": rows(), "near duplicates": repeated()}, indent=1))
        return
    for row in rows():
        print(
            f"{row['task']}, {row['questions']}, {row['guess']}: {row['right']:.1%} "
            f"({row['low']:.1%} to {row['high']:.1%}; {row['n']} questions, {row['units']} units)"
        )
    for task, counts in repeated().items():
        print(
            f"{task}: {counts['near']} of {counts['sentences']} test sentences differ in at most "
            "one word in five from one of another split"
        )


if __name__ == "__main__":
    main()
