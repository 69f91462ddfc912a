"""A model, or a null of it, with its questions: answers and scores, each measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate, clustered_mean
from vlm_bridge.data import Item, unit_word
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.claims.protocol import fatal_layers
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.experiments.rule_benchmark import Store, ranked
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import unit_place
from vlm_bridge.rules import Evidence, find_rule
from vlm_bridge.runtime.files import safe_name
from vlm_bridge.skip import supported_modes
from vlm_bridge.skip.support import supported_layers

Floats = NDArray[np.float64]


class AnswerBook:
    """Which answers of one model to some questions plans change; each plan is run once.

    Args:
        vlm: the model.
        items: one question for each unit.
        folder: for finished batches, from which a later run continues.
        settings: batch size and longest answer.
    """

    def __init__(
        self, vlm: VLM, items: Sequence[Item], folder: Path, settings: ClaimsSettings
    ) -> None:
        self.vlm, self.items, self.folder = vlm, tuple(items), folder
        self.settings = settings
        self._full: FullAnswers | None = None
        self._outcomes: dict[str, Outcomes] = {}

    @property
    def full(self) -> FullAnswers:
        """The full model's answers."""
        if self._full is None:
            self._full = FullAnswers.ask(
                self.vlm,
                self.items,
                batch_size=self.settings.batch_size,
                max_new_tokens=self.settings.max_new_tokens,
                checkpoint=self.folder / "full.jsonl",
            )
        return self._full

    def texts(self) -> list[str]:
        """The full model's answers in the order of `items`."""
        by_item = dict(zip(self.full.items, self.full.texts, strict=True))
        return [by_item[item] for item in self.items]

    def outcomes(self, plan: SkipPlan) -> Outcomes:
        """Which answers the plan changes."""
        self.run([plan])
        return self._outcomes[plan.hash()]

    def run(self, plans: Sequence[SkipPlan]) -> None:
        """Run the plans that were not run yet, together: what they share is computed once."""
        new = {plan.hash(): plan for plan in plans if plan.hash() not in self._outcomes}
        if not new:
            return
        bare = [replace(plan, provenance=Provenance()) for plan in new.values()]  # a null runs them
        found = self.full.of_plans(
            self.vlm,
            bare,
            batch_size=self.settings.batch_size,
            changes_only=True,
            folder=self.folder,
        )
        self._outcomes.update(zip(new, found, strict=True))

    def changed(self, plan: SkipPlan) -> Floats:
        """(n_items,) 1 where the plan changes the answer, in the order of `items`."""
        outcomes = self.outcomes(plan)
        by_item = dict(zip(outcomes.items, outcomes.disagree, strict=True))
        return np.array([by_item[item] for item in self.items])

    def all_changed(self, plans: Sequence[SkipPlan]) -> Floats:
        """(n_items, n_plans) as `changed`."""
        self.run(plans)
        return np.column_stack([self.changed(plan) for plan in plans])


class Subject:
    """A model with profiling and test questions.

    Args:
        kind: "model" or the name of a null; a part of the folder of its checkpoints.
        vlm: the model.
        profiling: questions that rules read.
        test: questions on which plans are judged; single units on the first `ranked` of them.
        folder: for finished work.
        settings: sizes and levels.
    """

    def __init__(
        self,
        kind: str,
        vlm: VLM,
        profiling: Sequence[Item],
        test: Sequence[Item],
        folder: Path,
        settings: ClaimsSettings,
    ) -> None:
        self.kind, self.vlm, self.settings = kind, vlm, settings
        self.folder = folder / safe_name(kind)
        self.profiling, self.seed = tuple(profiling), settings.seed
        self.test = AnswerBook(vlm, test, self.folder / "test", settings)
        self.ranked = self.test
        if len(test) > settings.ranked:
            first = test[: settings.ranked]
            self.ranked = AnswerBook(vlm, first, self.folder / "ranked", settings)
        self.evidence = Evidence(vlm, profiling, batch_size=settings.batch_size)
        self._store = Store(
            vlm, {"profiling": profiling}, self.folder, batch_size=settings.batch_size
        )
        self._reasons = supported_modes(vlm)

    @property
    def n_layers(self) -> int:
        """Number of layers of the decoder."""
        return self.vlm.layout.n_layers

    @property
    def unit(self) -> str:
        """What its independent units are, in the plural."""
        return unit_word(self.test.items)

    def has(self, mode: str) -> bool:
        """Whether the model supports a mode."""
        return not self._reasons[mode]

    def units(self, mode: str) -> list[SkipPlan]:
        """The single units of a mode that the model supports: of layers those that have it."""
        usable = supported_layers(self.vlm, mode) if mode in LAYERWISE else ()
        return [
            unit
            for unit in self.evidence.units(mode)
            if mode not in LAYERWISE or int(unit_place(unit)) in usable
        ]

    def counted(self, mode: str) -> list[bool]:
        """For each of `units`, whether rankings count it: not the fatal layers; every depth."""
        fatal = fatal_layers(self.n_layers) if mode in LAYERWISE else ()
        return [int(unit_place(unit)) not in fatal for unit in self.units(mode)]

    def counted_units(self, mode: str) -> list[SkipPlan]:
        """The `units` that rankings count."""
        pairs = zip(self.units(mode), self.counted(mode), strict=True)
        return [unit for unit, counted in pairs if counted]

    def held_out(self, mode: str) -> tuple[int, ...]:
        """Layers that no plan of the protocol skips: fatal ones, and those without the mode."""
        free = {int(unit_place(unit)) for unit in self.counted_units(mode)}
        return tuple(layer for layer in range(self.n_layers) if layer not in free)

    def scores(self, rule: str, mode: str, *, counted: bool = True) -> Floats:
        """Scores of a rule for `counted_units`, or for all `units`; stored when measured.

        Raises:
            BridgeError: the rule cannot score this mode of this model.
        """
        found = np.array(ranked(find_rule(rule), mode, self.evidence, self._store).scores)
        places = [self.evidence.units(mode).index(unit) for unit in self.units(mode)]
        kept = [
            place
            for place, own in zip(places, self.counted(mode), strict=True)
            if own or not counted
        ]
        return np.asarray(found[kept])

    def harm(self, mode: str) -> Floats:
        """(n_images, n_units) answers that each of `counted_units` changes, of `ranked`."""
        return self.ranked.all_changed(self.counted_units(mode))

    def depth(self, mode: str) -> Floats:
        """(n_units,) place of each of `counted_units`."""
        return np.array([unit_place(unit) for unit in self.counted_units(mode)])


def share(values: Floats, items: Sequence[Item], low: float = 0.0, high: float = 1.0) -> Estimate:
    """Mean of (n_items,) values in [low, high] with its interval by unit."""
    return clustered_mean(values, [item.cluster for item in items], bounds=(low, high))
