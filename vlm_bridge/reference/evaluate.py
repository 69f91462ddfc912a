"""The reference VLM on the easy-VQA test questions, and whether two processes agree."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from estimators import Estimate
from vlm_bridge.answers import answer
from vlm_bridge.baselines import accuracy, blind_answers
from vlm_bridge.data import Item, easy_vqa, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.vlm import VLM

ANSWERS = "answers.json"


@dataclass(frozen=True)
class Evaluation:
    """The reference VLM's test accuracy beside what needs no vision.

    Attributes:
        answers: its greedy answers, in the order of `reference_questions`.
        right: how many of them are true.
        accuracy: every image weighing the same, interval by image.
        accuracy_blind: the most frequent training answer to the same question text.
        accuracy_no_vision: the VLM asked without the image.
        data_hash: of the questions.
    """

    answers: tuple[str, ...]
    right: int
    accuracy: Estimate
    accuracy_blind: Estimate
    accuracy_no_vision: Estimate
    data_hash: str

    @property
    def accuracy_of_questions(self) -> float:
        """Right answers over questions, the plain share."""
        return self.right / len(self.answers)

    def summary(self) -> dict[str, Any]:
        """Everything but the answers, JSON-ready."""
        return {
            "n_questions": len(self.answers),
            "right": self.right,
            "accuracy_of_questions": self.accuracy_of_questions,
            "accuracy": self.accuracy.to_json(),
            "accuracy_blind": self.accuracy_blind.to_json(),
            "accuracy_no_vision": self.accuracy_no_vision.to_json(),
            "data_hash": self.data_hash,
        }


def reference_questions() -> list[Item]:
    """All 9,673 test questions: the certification and the report images together."""
    return easy_vqa("certification") + easy_vqa("test")


def fixed_places(count: int = 1000) -> list[int]:
    """The seeded places in `reference_questions` that the quick reproduction check asks."""
    return sorted(random.Random(1000).sample(range(len(reference_questions())), count))


def answer_as_trained(vlm: VLM, items: list[Item], *, with_images: bool = True) -> list[str]:
    """Answers with the batch size and length the training process used."""
    return answer(
        vlm,
        items,
        size=32,
        max_new_tokens=6,
        with_images=with_images,
        title="test questions" if with_images else "without vision",
    )


def evaluate(vlm: VLM, items: list[Item] | None = None) -> Evaluation:
    """Answer the test questions with and without the image, by greedy `generate`."""
    items = reference_questions() if items is None else items
    seen = answer_as_trained(vlm, items)
    unseen = answer_as_trained(vlm, items, with_images=False)
    return Evaluation(
        answers=tuple(seen),
        right=sum(text == item.answer for text, item in zip(seen, items, strict=True)),
        accuracy=accuracy(seen, items),
        accuracy_blind=accuracy(blind_answers(easy_vqa("train"), items), items),
        accuracy_no_vision=accuracy(unseen, items),
        data_hash=items_hash(items),
    )


def write_answers(folder: Path, evaluation: Evaluation) -> None:
    """Keep the training process's answers beside the weights."""
    body = {**evaluation.summary(), "answers": list(evaluation.answers)}
    (folder / ANSWERS).write_text(json.dumps(body, indent=0) + "\n", encoding="utf-8")


def trained_answers() -> dict[str, Any]:
    """What the training process answered and scored, as shipped.

    Raises:
        BridgeError: the file is not there.
    """
    path = files("vlm_bridge.reference") / "weights" / ANSWERS
    if not path.is_file():
        raise BridgeError(
            f"{path} is missing; it is written by: python -m vlm_bridge.reference train"
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
