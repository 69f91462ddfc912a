"""Answers under an `AdaptivePlan`: only unsure ones go on, and nothing shared is computed twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS, Generated, check_max_new_tokens, generated
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.signals import agreements, signals_of
from vlm_bridge.model.given import check_adaptive, check_items, check_vlm
from vlm_bridge.model.prompts import Batch, collate
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.skip import check_support, skipping
from vlm_bridge.skip.inputs import modality_inputs
from vlm_bridge.skip.prefix import Prefix, inputs_of_rows, recording, resuming


@dataclass(frozen=True)
class AdaptiveAnswers:
    """Answers under an adaptive plan.

    Attributes:
        items: the questions.
        texts: the answer to each.
        gates: number of the gate at which each answer stood, from 0; the number of gates where the
            full model gave it.
    """

    items: tuple[Item, ...]
    texts: tuple[str, ...]
    gates: tuple[int, ...]


def adaptive_answers(
    vlm: VLM,
    items: Iterable[Item],
    plan: AdaptivePlan,
    *,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
) -> AdaptiveAnswers:
    """Greedy answers: each by the first gate at which it is sure enough, or by the full model.

    An answer of a gate is complete before it is judged, so that there is no streaming. What the
    layers before the first skipped one and the encoders have computed is used again. Answers of the
    full model are those of `answer`, up to rounding: a row computed in another batch may differ in
    the last digits of its logits.

    Raises:
        BridgeError: no adaptive plan, a plan of another model or one that the model cannot do, no
            items, a model that skips at present, a broken one, a checkpoint of another run.

    Example:
        >>> adaptive_answers(vlm, items, AdaptivePlan((Gate(plan),))).texts  # doctest: +SKIP
        ('yes', 'a circle')
    """
    check_vlm(vlm)
    check_adaptive_support(vlm, plan)
    items = check_items(items)
    check_max_new_tokens(max_new_tokens)

    def work(batch: Batch) -> dict[str, Any]:
        made = adaptive_batch(vlm, batch, plan, max_new_tokens=max_new_tokens)
        return {"texts": made.texts, "gates": made.gates}

    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    answered = run_batches(
        vlm,
        items,
        work,
        lambda result, n: _are_answers(result, n, len(plan.gates)),
        batch_size=batch_size,
        title="adaptive plan",
        checkpoint=checkpoint,
        key=run_key("adaptive answers", vlm, items, plan=plan.hash(), **settings),
    )
    asked = tuple(item for chosen, _ in answered for item in chosen)
    texts, gates = (
        tuple(value for _, result in answered for value in result[name])
        for name in ("texts", "gates")
    )
    return _in_order_of(items, AdaptiveAnswers(asked, texts, gates))


def _in_order_of(items: Sequence[Item], made: AdaptiveAnswers) -> AdaptiveAnswers:
    """The same answers in the order of `items`; batches keep the questions of a unit together."""
    places: dict[int, list[int]] = {}
    for place, item in enumerate(made.items):
        places.setdefault(id(item), []).append(place)
    order = [places[id(item)].pop(0) for item in items]
    texts, gates = tuple(made.texts[i] for i in order), tuple(made.gates[i] for i in order)
    return AdaptiveAnswers(tuple(items), texts, gates)


def _are_answers(result: Any, n: int, gates: int) -> bool:
    if not isinstance(result, dict) or set(result) != {"texts", "gates"}:
        return False
    lists = is_list_of(result["texts"], str, n) and is_list_of(result["gates"], int, n)
    return lists and all(0 <= gate <= gates for gate in result["gates"])


def check_adaptive_support(vlm: VLM, plan: AdaptivePlan) -> None:
    """Raise a `BridgeError` unless the model can do every plan, and all are of this model."""
    check_adaptive(plan)
    plan.provenance.check_model(vlm.name, vlm.fingerprint)
    for each in plan.plans:
        check_support(vlm, each)


def adaptive_outcomes(
    full: FullAnswers,
    vlm: VLM,
    plan: AdaptivePlan,
    *,
    batch_size: int = 16,
    checkpoint: Path | None = None,
) -> tuple[Outcomes, tuple[int, ...]]:
    """Outcomes of the adaptive plan beside the full model's answers, and the gate of each."""
    made = adaptive_answers(
        vlm,
        full.items,
        plan,
        batch_size=batch_size,
        max_new_tokens=full.max_new_tokens,
        checkpoint=checkpoint,
    )
    outcomes = Outcomes.of_words(
        full.items,
        full.texts,
        made.texts,
        at_limit=full.at_limit,
        max_new_tokens=full.max_new_tokens,
    )
    return outcomes, made.gates


def adaptive_batch(
    vlm: VLM, batch: Batch, plan: AdaptivePlan, *, max_new_tokens: int = MAX_NEW_TOKENS
) -> AdaptiveAnswers:
    """Answers to one batch; see `adaptive_answers`."""
    return run_gates(AdaptiveRun(vlm, batch, plan, max_new_tokens=max_new_tokens), plan)


def run_gates(run: AdaptiveRun, plan: AdaptivePlan) -> AdaptiveAnswers:
    """Answers of all rows of a run that has not begun."""
    vlm, batch = run.vlm, run.batch
    texts, gates = [""] * len(batch.items), [len(plan.gates)] * len(batch.items)
    for number, gate in enumerate(plan.gates):
        made = run.at_gate(gate)
        left = []
        for place, stands in enumerate(gate.passes(made.signals)):
            if stands:
                texts[run.rows[place]], gates[run.rows[place]] = made.texts[place], number
            else:
                left.append(place)
        if not left:
            return AdaptiveAnswers(batch.items, tuple(texts), tuple(gates))
        run.narrow(left)
    for row, text in zip(run.rows, run.ask(None).texts(vlm), strict=True):
        texts[row] = text
    return AdaptiveAnswers(batch.items, tuple(texts), tuple(gates))


@dataclass(frozen=True)
class AtGate:
    """Answers at a gate and their signals."""

    texts: tuple[str, ...]
    signals: list[float]


class AdaptiveRun:
    """The runs of one batch under an adaptive plan, each on the rows that are left.

    Attributes:
        vlm: the model.
        batch: the questions.
        rows: places in the batch of those that are left.
        deciding: seconds spent on signals so far, not on the answers that they judge.
    """

    def __init__(self, vlm: VLM, batch: Batch, plan: AdaptivePlan, *, max_new_tokens: int) -> None:
        self.vlm, self.batch, self.rows = vlm, batch, list(range(len(batch.items)))
        self.deciding, self._longest = 0.0, max_new_tokens
        self._inputs, self._places = batch.inputs, list(self.rows)
        shares = not vlm.layout.encoder_decoder
        self._prefix = Prefix(batch.inputs["input_ids"].shape[1]) if shares else None
        firsts = [_first_layer(vlm, each) for each in (*plan.plans, None)]
        pairs = pairwise(first for first in firsts if first is not None)
        self._depths = {0, *(min(pair) for pair in pairs)}  # at 0 the encoders are shared

    def narrow(self, places: Sequence[int]) -> None:
        """Go on with some of the rows, by their places among those that are left."""
        self.rows, self._places = (
            [values[place] for place in places] for values in (self.rows, self._places)
        )
        if self._prefix is not None:
            self._prefix = self._prefix.rows(places)

    def at_gate(self, gate: Gate) -> AtGate:
        """The answers under the plan of a gate, and how sure they are."""
        made = self.ask(gate.plan)
        second = None if gate.second is None else self.ask(gate.second)
        start = time.perf_counter()
        if second is None:
            signals = signals_of(self.vlm, made, gate.signal, gate.over)
        else:
            signals = agreements(self.vlm, made, second, gate.over)
        self.deciding += time.perf_counter() - start
        return AtGate(made.texts(self.vlm), signals)

    def ask(self, plan: SkipPlan | None) -> Generated:
        """Generate answers of the rows under `plan`, or of the full model, from what is known."""
        vlm, first, prefix = self.vlm, _first_layer(self.vlm, plan), self._prefix
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
            made = generated(vlm, inputs, max_new_tokens=self._longest, names=names)
        if prefix is not None and first is not None:
            prefix.learn_keys(made.cache, min(first, max(self._depths)))
        return made

    def _start(self, plan: SkipPlan | None, first: int | None) -> tuple[int, dict[str, Any]] | None:
        """The depth at which a run can start, and its inputs; None if it starts from scratch.

        Pruning chooses tokens in the pass that carries the pixels.
        """
        if self._prefix is None or first is None or (plan and plan.kept_only_layers):
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


def _first_layer(vlm: VLM, plan: SkipPlan | None) -> int | None:
    """The first layer that differs from the full model's; None if an encoder differs, too."""
    if plan is None:
        return vlm.layout.n_layers
    return plan.first_layer if plan.stack == DECODER else None
