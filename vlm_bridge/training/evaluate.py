"""A reference model on the test questions, and whether two processes agree."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators import Estimate
from vlm_bridge.data import TASKS, Item, items_hash, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, majority_answers
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.reference.recipe import RECIPES, Recipe
from vlm_bridge.reference.shipped import ANSWERS, check_name, shipped
from vlm_bridge.skip import skipping


def task_sets(name: str) -> tuple[str, ...]:
    """The task sets a reference model was trained on.

    Example:
        >>> task_sets("reference")
        ('easy-vqa',)
    """
    recipe = RECIPES[check_name(name)]
    return ("easy-vqa",) if isinstance(recipe, Recipe) else recipe.tasks


def test_questions(name: str, task: str) -> list[Item]:
    """What a model is tested on: questions about certification and report images together.

    All of them, unless the recipe says how many of an image.
    """
    items = TASKS[task]("certification") + TASKS[task]("test")
    most = RECIPES[check_name(name)].test_per_image
    return items if most is None else limit_per_image(items, most)


def fixed_places(name: str, task: str, count: int = 500) -> list[int]:
    """The seeded places in `test_questions` that the quick reproduction check asks."""
    return sorted(random.Random(1000).sample(range(len(test_questions(name, task))), count))


@dataclass(frozen=True)
class Evaluation:
    """A model's accuracy on one task set beside what needs no vision.

    Attributes:
        task: the task set.
        answers: its greedy answers, in the order of `test_questions`.
        right: how many of them are true.
        accuracy: every image weighing the same, interval by image.
        accuracy_blind: the most frequent training answer to the same question text.
        accuracy_majority: the most frequent training answer of all.
        accuracy_no_vision: the model asked without the image.
        accuracy_late_entry: with vision entering where the model was trained to, on the
            questions at `fixed_places`; None for a model that was not.
        data_hash: of the questions.
    """

    task: str
    answers: tuple[str, ...]
    right: int
    accuracy: Estimate
    accuracy_blind: Estimate
    accuracy_majority: Estimate
    accuracy_no_vision: Estimate
    accuracy_late_entry: Estimate | None
    data_hash: str

    @property
    def accuracy_of_questions(self) -> float:
        """Right answers over questions, the plain share."""
        return self.right / len(self.answers)

    def accuracies(self) -> dict[str, Estimate]:
        """Every accuracy that was measured, by name."""
        found = {
            "accuracy": self.accuracy,
            "accuracy_blind": self.accuracy_blind,
            "accuracy_majority": self.accuracy_majority,
            "accuracy_no_vision": self.accuracy_no_vision,
        }
        if self.accuracy_late_entry is not None:
            found["accuracy_late_entry"] = self.accuracy_late_entry
        return found

    def summary(self) -> dict[str, Any]:
        """Everything but the answers, JSON-ready."""
        return {
            "n_questions": len(self.answers),
            "right": self.right,
            "accuracy_of_questions": self.accuracy_of_questions,
            **{name: found.to_json() for name, found in self.accuracies().items()},
            "data_hash": self.data_hash,
        }


def answer_as_trained(vlm: VLM, items: Sequence[Item], *, with_images: bool = True) -> list[str]:
    """Answers with the batch size and length the training process used."""
    return answer(
        vlm,
        items,
        batch_size=32,
        max_new_tokens=6,
        with_images=with_images,
        title="test questions" if with_images else "without vision",
    )


def evaluate(vlm: VLM, name: str, task: str) -> Evaluation:
    """Answer the test questions with and without the image, by greedy `generate`.

    Args:
        vlm: the model of that name, from wherever it comes.
        name: one of the reference models.
        task: one of `task_sets(name)`.
    """
    items, training = test_questions(name, task), TASKS[task]("train")
    some = [items[i] for i in fixed_places(name, task)]
    recipe = RECIPES[check_name(name)]
    entry = recipe.entry if isinstance(recipe, Recipe) else 0
    with (
        skipping(vlm, SkipPlan("late_entry", n_layers=vlm.layout.n_layers, entry=entry))
        if entry
        else nullcontext()
    ):
        late = answer_as_trained(vlm, some) if entry else None
    seen = answer_as_trained(vlm, items)
    unseen = answer_as_trained(vlm, items, with_images=False)
    return Evaluation(
        task=task,
        answers=tuple(seen),
        right=sum(text == item.answer for text, item in zip(seen, items, strict=True)),
        accuracy=accuracy(seen, items),
        accuracy_blind=accuracy(blind_answers(training, items), items),
        accuracy_majority=accuracy(majority_answers(training, items), items),
        accuracy_no_vision=accuracy(unseen, items),
        accuracy_late_entry=None if late is None else accuracy(late, some),
        data_hash=items_hash(items),
    )


def write_answers(folder: Path, evaluations: Sequence[Evaluation]) -> None:
    """Keep the training process's answers beside the weights."""
    body = {e.task: {**e.summary(), "answers": list(e.answers)} for e in evaluations}
    (folder / ANSWERS).write_text(json.dumps(body, indent=0) + "\n", encoding="utf-8")


def trained_answers(name: str) -> dict[str, Any]:
    """What the training process answered and scored, by task set, as shipped.

    Raises:
        BridgeError: the file is not there.
    """
    with shipped(name, ANSWERS) as path:
        if not path.is_file():
            raise BridgeError(
                f"{path} is missing; it is written by: python -m vlm_bridge.training train {name}"
            )
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
