"""`with skipping(vlm, plan)` for both kinds of plans; of an adaptive one, rows decide apart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from threading import Lock, get_ident
from typing import Any, overload

import torch
from torch import Tensor, nn
from transformers.generation.utils import GenerateDecoderOnlyOutput

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import AdaptiveRun, check_adaptive_support, standing
from vlm_bridge.evaluate.answers import Generated, end_ids
from vlm_bridge.evaluate.generate_call import GenerateCall, pad_id
from vlm_bridge.evaluate.shared_run import SharedRun, first_layer
from vlm_bridge.model.given import check_vlm
from vlm_bridge.model.in_use import check_whole
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.by_token import generate_by_token
from vlm_bridge.skip.context import skipping as skipping_always
from vlm_bridge.skip.patching import Patch, forward_of, patched
from vlm_bridge.skip.prefix import complete_inputs_of_rows
from vlm_bridge.skip.tracker import PassTracker


@overload
def skipping(
    model: VLM | nn.Module, plan: SkipPlan | str, *, fast: bool = True
) -> AbstractContextManager[PassTracker]: ...
@overload
def skipping(
    model: VLM, plan: AdaptivePlan, *, fast: bool = True
) -> AbstractContextManager[AdaptiveBlock]: ...
def skipping(
    model: VLM | nn.Module, plan: SkipPlan | str | AdaptivePlan, *, fast: bool = True
) -> AbstractContextManager[PassTracker | AdaptiveBlock]:
    """Run a model under a plan inside the block; the model is restored when the block ends.

    A `SkipPlan` skips in every pass: see `vlm_bridge.skip.skipping`. Under an `AdaptivePlan`
    `vlm.model.generate` answers greedily, and every row of a batch is decided apart: it gets the
    tokens of the first gate at which it is sure enough, or of the full model, up to the rounding of
    a row computed in another batch. The result has the shape that `generate` gives: prompts, then
    new tokens, with padding behind shorter answers. Rows that are not sure go on alone, from the
    layers that plans share, where their inputs can be told apart; else the whole batch is run and
    the others are dropped.

    A gate over tokens judges each token: see `generate_by_token`, which streams them, too.

    Answers are judged when they are complete, so that there is no streaming, and no cache to go on
    with. What needs more than greedy tokens is refused by name before anything is computed, and so
    is a single pass of the model, which has no answer to judge. Threads take turns.

    Args:
        model: a `VLM`, or for a `SkipPlan` a bare transformers model, too; it does not skip yet.
        plan: what to skip; a `SkipPlan` also in words, or as the path of its file.
        fast: False is for a `SkipPlan` alone; see `vlm_bridge.skip.skipping`.

    Yields:
        Of a `SkipPlan` the tracker of its passes, of an `AdaptivePlan` an `AdaptiveBlock`.

    Raises:
        BridgeError: a plan of another model or one that it does not support, a model that skips
            already, an encoder-decoder or `fast=False` with an adaptive plan. Inside the block:
            what `GenerateCall.read` refuses, and a pass of the model alone.

    Example:
        >>> with skipping(vlm, adaptive) as block:  # doctest: +SKIP
        ...     tokens = vlm.model.generate(**inputs, max_new_tokens=16)
        ...     print(block.gates)
        (0, 1, 0)
    """
    if isinstance(plan, AdaptivePlan):
        return _adaptive(model, plan, fast=fast)
    return skipping_always(model, plan, fast=fast)


class AdaptiveBlock:
    """A block of an adaptive plan.

    Attributes:
        gates: of each row of the last call of `generate`, the number of the gate at which its
            answer stood, from 0; the number of gates where the full model gave it. Of a gate over
            tokens as in `TokenDecisions`.
    """

    def __init__(self, vlm: VLM, plan: AdaptivePlan) -> None:
        self.gates: tuple[int, ...] = ()
        self._vlm, self._plan = vlm, plan
        self._generate, self._forward = vlm.model.generate, forward_of(vlm.model)
        self._turn, self._running = Lock(), 0

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Stands in for `generate` of the model."""
        if self._running == get_ident():
            return self._generate(*args, **kwargs)
        call = GenerateCall.read(self._vlm, args, kwargs)
        with self._turn:
            self._running = get_ident()
            try:
                sequences = self._answered(call)
            finally:
                self._running = 0
        return GenerateDecoderOnlyOutput(sequences=sequences) if call.as_dict else sequences

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Stands in for `forward` of the model: refuses a pass that is not of `generate`."""
        if self._running != get_ident():
            raise BridgeError(
                f"{self._vlm.name} runs under an adaptive plan, which judges whole answers: a "
                "single pass has none; call vlm.model.generate, or do this outside the block"
            )
        return self._forward(*args, **kwargs)

    def _answered(self, call: GenerateCall) -> Tensor:
        """(rows, length) prompts and answers, as `generate` gives them."""
        ids = call.inputs["input_ids"]
        if self._plan.by_token:
            (gate,) = self._plan.gates
            made = generate_by_token(
                self._vlm, call.inputs, gate, max_new_tokens=call.max_new_tokens
            )
            self.gates = made.gates
            return self._behind(ids, [ids.new_tensor(row) for row in made.tokens])
        asked = tuple(Item(None, f"prompt {row + 1}") for row in range(len(ids)))
        batch = Batch(asked, tuple(range(len(ids))), call.inputs)
        run = PromptRun(self._vlm, batch, self._plan, max_new_tokens=call.max_new_tokens)
        gates, new = [0] * len(ids), [ids[0, :0]] * len(ids)
        for stood in standing(run, self._plan):
            for row, tokens in zip(stood.rows, stood.made.ids, strict=True):
                gates[row], new[row] = stood.gate, self._until_end(tokens)
        self.gates = tuple(gates)
        return self._behind(ids, new)

    def _behind(self, ids: Tensor, new: list[Tensor]) -> Tensor:
        """(rows, length) prompts `ids` and the new tokens of each row, with padding behind."""
        pad = pad_id(self._vlm)
        answers = torch.nn.utils.rnn.pad_sequence(new, batch_first=True, padding_value=pad)
        return torch.cat([ids, answers.to(ids.device)], dim=1)

    def _until_end(self, tokens: Tensor) -> Tensor:
        """The tokens of an answer up to its end; what follows is padding."""
        ends = end_ids(self._vlm)
        length = next((i for i, token in enumerate(tokens.tolist(), 1) if token in ends), None)
        return tokens[:length]


class PromptRun(AdaptiveRun):
    """An `AdaptiveRun` of prompts that were made elsewhere, so that they are not padded anew."""

    def ask_anew(self, plan: SkipPlan | None) -> Generated:
        """As of an `AdaptiveRun`; of the whole batch where rows cannot be taken from its inputs."""
        from_scratch = self._start(plan, first_layer(self.vlm, plan)) is None
        if from_scratch and self._narrowed and self._some_inputs() is None:
            longest = self._longest
            whole = SharedRun(self.vlm, self.batch, [plan], max_new_tokens=longest)
            return whole.ask(plan).rows(self.rows)
        return super().ask_anew(plan)

    @property
    def _narrowed(self) -> bool:
        return len(self.rows) < len(self.batch.items)

    def _some_inputs(self) -> dict[str, Tensor] | None:
        return complete_inputs_of_rows(self.batch.inputs, self.rows, self.vlm)

    def _from_scratch(self) -> dict[str, Any]:
        """Complete inputs of the rows, padded as they came; what is known of them stays known."""
        if self._narrowed:
            some = self._some_inputs()
            assert some is not None  # `ask` runs the whole batch otherwise
            self._inputs, self._places = some, list(range(len(self.rows)))
        return self._inputs


@contextlib.contextmanager
def _adaptive(vlm: Any, plan: AdaptivePlan, *, fast: bool) -> Iterator[AdaptiveBlock]:
    if isinstance(vlm, nn.Module):
        raise BridgeError(
            f"an adaptive plan judges answers as text, so that a bare {type(vlm).__name__} is not "
            "enough: make a VLM of it, vb.wrap(model, processor), and give that"
        )
    check_vlm(vlm)
    if not fast:
        raise BridgeError(
            "an adaptive plan has no plain form, its plans have; leave out fast=False"
        )
    if vlm.layout.encoder_decoder:
        raise BridgeError(
            f"{vlm.name} is an encoder-decoder, for which an adaptive plan has no block of "
            "`skipping`; run it with vb.adaptive_answers(vlm, items, plan)"
        )
    check_whole(vlm.name, vlm.layout.layers)
    if isinstance(vlm.model.__dict__.get("generate"), Patch):
        raise BridgeError(f"{vlm.name} runs under an adaptive plan already")
    check_adaptive_support(vlm, plan)
    block = AdaptiveBlock(vlm, plan)
    with patched(vlm.model, block.generate, "generate"), patched(vlm.model, block.forward):
        yield block
