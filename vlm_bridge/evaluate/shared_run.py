"""Answers to one batch under several plans: what their first layers share is computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from transformers import StoppingCriteria

from vlm_bridge.evaluate.answers import Generated, generated
from vlm_bridge.model.prompts import Batch, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.skip import skipping
from vlm_bridge.skip.inputs import modality_inputs
from vlm_bridge.skip.prefix import Prefix, inputs_of_rows, recording, resuming


class SharedRun:
    """The runs of one batch under some plans, each from the deepest layer that is known.

    A plan leaves the layers before its first touched one, and the encoders, as they are in the
    full model: a run after another one starts with the states that both share.

    Args:
        vlm: the model.
        batch: the questions.
        order: the plans in the order of their runs, None for the full model. A run in another order
            is right too, but may share less.
        max_new_tokens: longest answer.

    Attributes:
        rows: places in the batch of the questions that are left.
    """

    def __init__(
        self, vlm: VLM, batch: Batch, order: Sequence[SkipPlan | None], *, max_new_tokens: int
    ) -> None:
        self.vlm, self.batch, self.rows = vlm, batch, list(range(len(batch.items)))
        self._longest = max_new_tokens
        self._inputs, self._places = batch.inputs, list(self.rows)
        # A run can start behind known layers only if a cache holds their keys.
        cached = getattr(vlm.model.generation_config, "use_cache", None) is not False
        shares = cached and not vlm.layout.encoder_decoder
        self._prefix = Prefix(batch.inputs["input_ids"].shape[1]) if shares else None
        firsts = [first_layer(vlm, plan) for plan in order]
        self._depths = shared_depths(firsts, vlm.layout.n_layers)

    def narrow(self, places: Sequence[int]) -> None:
        """Go on with some of the rows, by their places among those that are left."""
        self.rows, self._places = (
            [values[place] for place in places] for values in (self.rows, self._places)
        )
        if self._prefix is not None:
            self._prefix = self._prefix.rows(places)

    def ask(self, plan: SkipPlan | None, *, until: StoppingCriteria | None = None) -> Generated:
        """Generate answers of the rows under `plan`, or of the full model, from what is known.

        A row for which `until` holds ends there.
        """
        vlm, first, prefix = self.vlm, first_layer(self.vlm, plan), self._prefix
        names = [self.batch.items[row].name for row in self.rows]
        with contextlib.ExitStack() as stack:
            tracker = None if plan is None else stack.enter_context(skipping(vlm, plan))
            if plan is None:
                stack.enter_context(vlm.whole())
            start = self._start(plan, first)
            if start is None or prefix is None:
                inputs = self._from_scratch()
                prefix = self._prefix
            else:
                depth, inputs = start
                if tracker is not None:
                    tracker.resume(inputs["input_ids"], modality_inputs(self._inputs))
                stack.enter_context(resuming(vlm, prefix, depth))
            if prefix is not None and first is not None:
                depths = [depth for depth in self._depths if depth <= first]
                stack.enter_context(recording(vlm, prefix, depths))
            longest = self._longest
            made = generated(vlm, inputs, max_new_tokens=longest, names=names, until=until)
        if prefix is not None and first is not None:
            prefix.learn_keys(made.cache, min(first, max(self._depths)))
        return made

    @property
    def known_layers(self) -> int:
        """Number of first layers whose keys are known, so that a run may start behind them."""
        return 0 if self._prefix is None else len(self._prefix.keys)

    def _start(self, plan: SkipPlan | None, first: int | None) -> tuple[int, dict[str, Any]] | None:
        """The depth at which a run can start, and its inputs; None if it starts from scratch."""
        if self._prefix is None or first is None or reads_pixels(plan):
            return None
        depth = self._prefix.depth(first)
        if depth is None:
            return None
        inputs = inputs_of_rows(self._inputs, self._places, self.vlm, depth)
        return None if inputs is None else (depth, inputs)

    def _from_scratch(self) -> dict[str, Any]:
        """Complete inputs of the rows; where rows have left, prompts are padded anew."""
        if self._places != list(range(len(next(iter(self._inputs.values()))))):
            self._inputs = collate(self.vlm, self.batch.items, self.rows).inputs
            self._places = list(range(len(self.rows)))
            if self._prefix is not None:
                self._prefix = Prefix(self._inputs["input_ids"].shape[1])
        return self._inputs


def first_layer(vlm: VLM, plan: SkipPlan | None) -> int | None:
    """The first layer that differs from the full model's; None if an encoder differs, too."""
    if plan is None:
        return vlm.layout.n_layers
    return plan.first_layer if plan.stack == DECODER else None


def reads_pixels(plan: SkipPlan | None) -> bool:
    """Whether a run under the plan needs the pixels: pruning chooses in the pass with them."""
    return plan is not None and bool(plan.kept_only_layers)


def shared_depths(firsts: Sequence[int | None], n_layers: int) -> set[int]:
    """The depths at which runs start: each at most where an earlier one still was the full model.

    At 0 the encoders are shared.
    """
    depths, known = {0}, 0
    for first in firsts:
        if first is not None:
            depths.add(min(first, known, n_layers - 1))
            known = max(known, first)
    return depths
