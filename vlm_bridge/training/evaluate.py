"""Accuracy of a reference model on its test questions, and agreement of two processes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from estimators import Estimate
from vlm_bridge.data import TASKS, Item, items_hash, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer, is_correct
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, majority_answers
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.reference.build import blank
from vlm_bridge.reference.recipe import RECIPES, AnyRecipe, ConnectorRecipe, Recipe
from vlm_bridge.reference.shipped import ANSWERS, check_name, shipped
from vlm_bridge.skip import skipping


def task_sets(name: str) -> tuple[str, ...]:
    """The task sets on which a reference model was trained.

    Example:
        >>> task_sets("reference")
        ('easy-vqa',)
    """
    return RECIPES[check_name(name)].tasks


def test_questions(name: str, task: str) -> list[Item]:
    """The questions about certification and test images, limited per image by the recipe.

    A model of third-party parts is tested on the test images alone.
    """
    recipe = RECIPES[check_name(name)]
    splits = ("test",) if isinstance(recipe, ConnectorRecipe) else ("certification", "test")
    items = [item for split in splits for item in TASKS[task](split)]
    most = recipe.test_per_image
    return items if most is None else limit_per_image(items, most)


def fixed_places(name: str, task: str, count: int = 500) -> list[int]:
    """Seeded places in `test_questions`, at most `count`, for a quick check of reproduction."""
    there = len(test_questions(name, task))
    return sorted(random.Random(1000).sample(range(there), min(count, there)))


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a model on one task set, and of baselines without vision, by image."""

    task: str
    answers: tuple[str, ...]  # greedy, in the order of `test_questions`
    right: int
    accuracy: Estimate
    accuracy_blind: Estimate  # of `blind_answers`
    accuracy_majority: Estimate  # of `majority_answers`
    accuracy_no_vision: Estimate  # of the model without the image
    accuracy_late_entry: Estimate | None  # on `fixed_places`, if the model was trained with it
    accuracy_untrained: Estimate | None  # on `fixed_places`, with a random connector, if it has one
    data_hash: str
    forms: tuple[tuple[str, Estimate], ...] = ()  # accuracy by form of the question, if it has some

    @property
    def accuracy_of_questions(self) -> float:
        """Share of questions answered right."""
        return self.right / len(self.answers)

    def accuracies(self) -> dict[str, Estimate]:
        """The accuracies that were measured, by name."""
        names = [field.name for field in fields(self) if field.name.startswith("accuracy")]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def summary(self) -> dict[str, Any]:
        """Everything but the answers, JSON-ready."""
        return {
            "n_questions": len(self.answers),
            "right": self.right,
            "accuracy_of_questions": self.accuracy_of_questions,
            **{name: estimate.to_json() for name, estimate in self.accuracies().items()},
            **({"forms": {f: e.to_json() for f, e in self.forms}} if self.forms else {}),
            "data_hash": self.data_hash,
        }


def answer_as_trained(vlm: VLM, items: Sequence[Item], *, with_images: bool = True) -> list[str]:
    """Answers with the batch size and length of the training process."""
    title = "test questions" if with_images else "without vision"
    return answer(
        vlm,
        items,
        batch_size=32,
        max_new_tokens=most_tokens(items),
        with_images=with_images,
        title=title,
    )


def most_tokens(items: Sequence[Item]) -> int:
    """Tokens of an answer at most: half as many again as the longest reference has words, or 6.

    Example:
        >>> most_tokens([Item(Path("a.png"), "what?", "a red circle at the top left")])
        10
    """
    longest = max((len((item.answer or "").split()) for item in items), default=0)
    return max(6, longest + longest // 2)


def evaluate(vlm: VLM, name: str, task: str, recipe: AnyRecipe | None = None) -> Evaluation:
    """Evaluate the reference model `name` on its test questions of one of its `task_sets`.

    `recipe` is that of `vlm`, if it is not the one of the name.
    """
    items, training = test_questions(name, task), TASKS[task]("train")
    recipe = RECIPES[check_name(name)] if recipe is None else recipe
    some = [items[i] for i in fixed_places(name, task)]
    late = untrained = None
    if isinstance(recipe, ConnectorRecipe):
        random_connector = VLM.of(name, *blank(recipe))
        untrained = accuracy(answer_as_trained(random_connector, some), some)
    if isinstance(recipe, Recipe) and recipe.entry:
        plan = SkipPlan("late_entry", n_layers=vlm.layout.n_layers, entry=recipe.entry)
        with skipping(vlm, plan):
            late = accuracy(answer_as_trained(vlm, some), some)
    answers = answer_as_trained(vlm, items)
    return Evaluation(
        task=task,
        answers=tuple(answers),
        right=sum(map(bool, map(is_correct, answers, items))),
        accuracy=accuracy(answers, items),
        accuracy_blind=accuracy(blind_answers(training, items), items),
        accuracy_majority=accuracy(majority_answers(training, items), items),
        accuracy_no_vision=accuracy(answer_as_trained(vlm, items, with_images=False), items),
        accuracy_late_entry=late,
        accuracy_untrained=untrained,
        data_hash=items_hash(items),
        forms=_by_form(answers, items) if isinstance(recipe, ConnectorRecipe) else (),
    )


def _by_form(answers: Sequence[str], items: Sequence[Item]) -> tuple[tuple[str, Estimate], ...]:
    """Accuracy of the questions that begin with the same two words, not counting a quoted one."""
    pairs: dict[str, list[tuple[str, Item]]] = {}
    for text, item in zip(answers, items, strict=True):
        begins = " ".join(item.question.partition("'")[0].split()[:2])
        pairs.setdefault(begins, []).append((text, item))
    return tuple(
        (form, accuracy([text for text, _ in own], [item for _, item in own]))
        for form, own in sorted(pairs.items())
    )


def write_answers(folder: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write the answers of the training process beside the weights."""
    body = {e.task: {**e.summary(), "answers": list(e.answers)} for e in evaluations}
    (folder / ANSWERS).write_text(json.dumps(body, indent=0) + "\n", encoding="utf-8")


def trained_answers(name: str) -> dict[str, Any]:
    """Answers and accuracies of the training process by task set, as shipped."""
    with shipped(name, ANSWERS) as path:
        if not path.is_file():
            raise BridgeError(f"{path} is missing; run: python -m vlm_bridge.training train {name}")
        answers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return answers
