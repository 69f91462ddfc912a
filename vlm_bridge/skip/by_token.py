"""`generate_by_token`: tokens of which the model under a plan is sure, others of the full model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from estimators.record import Record
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.model.finite import finite
from vlm_bridge.model.given import check_vlm
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import Gate
from vlm_bridge.plan.provenance import MAX_NEW_TOKENS
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.quiet import quiet_transformers
from vlm_bridge.skip.lossless.batch import GrowingBatch
from vlm_bridge.skip.lossless.checks import Settings, check_call, given_draft
from vlm_bridge.skip.lossless.draft import Drafting, drafts_of, saves_in_decoding
from vlm_bridge.skip.lossless.options import options_of
from vlm_bridge.skip.lossless.process import Process
from vlm_bridge.skip.token_signal import token_signal

#: Arguments of `generate_by_token` itself.
_OWN = ("max_new_tokens", "streamer")


@dataclass(frozen=True)
class TokenDecisions(Record):
    """Generated tokens of a batch, and who gave each.

    Attributes:
        tokens: generated token ids of every row, the end of text included, without prompt and
            padding.
        by_plan: of each token whether it is the plan's. The first is the full model's always.
        signals: of each token behind the first, how sure the model under the plan was, in the unit
            of the gate's signal: of its own logits, before settings such as `repetition_penalty`.
        full_passes: passes of the full model, the prefill and every pass that catches up.
        plan_passes: passes of the model under the plan, one token of every row each.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("plan_share", "gates")

    tokens: tuple[tuple[int, ...], ...]
    by_plan: tuple[tuple[bool, ...], ...]
    signals: tuple[tuple[float, ...], ...]
    full_passes: int
    plan_passes: int

    @property
    def plan_share(self) -> float | None:
        """Share of the plan in the tokens behind the first; None if there are none.

        Example:
            >>> answer, by_plan = (5, 7, 2), (False, True, False)
            >>> TokenDecisions((answer,), (by_plan,), ((3.0, 0.1),), 2, 2).plan_share
            0.5
        """
        judged = [one for row in self.by_plan for one in row[1:]]
        return sum(judged) / len(judged) if judged else None

    @property
    def gates(self) -> tuple[int, ...]:
        """Of each row 0 where the plan gave all tokens behind the first, 1 otherwise.

        An answer of one token is the full model's.
        """
        return tuple(int(len(row) == 1 or not all(row[1:])) for row in self.by_plan)


def generate_by_token(
    vlm: VLM,
    inputs: Mapping[str, Any],
    gate: Gate,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    streamer: Any = None,
) -> TokenDecisions:
    """Greedy answers in which each token is judged by itself: a plan's if it is sure, else full.

    The full model reads the prompt and gives the first token. From there the model under the plan
    gives a token in each pass, as long as its signal is above the threshold of the gate. Where it
    is not, the full model catches up: in one pass it computes the states of all tokens since its
    last one anew, puts their keys and values in the place of the plan's, and gives the next token.
    So behind each of its tokens the cache is the full model's own for that text. At a threshold of
    inf the answers are those of `model.generate(do_sample=False)`, up to rounding; at -inf the
    plan gives every token but the first.

    Tokens that stand are final, unlike those of `generate_lossless`: an answer may differ from the
    full model's. How many do is measured by `adaptive_answers`, and certified by
    `search_by_token`. Catching up costs one pass for any number of tokens, so that time is saved
    where a pass over several tokens takes about as long as one over a single token, as on
    accelerators at small batches. Counted in FLOPs, a token up to the last unsure one is computed
    by both, so that only answers whose last unsure token comes early are cheaper than the full
    model's.

    Rows of a batch are judged apart, and an answer does not depend on those beside it, but for
    rounding: where one row is unsure, the pass of the full model runs over all, and the others keep
    what the plan has cached. Of a plan, what is skipped for text counts: `block` and `sublayer` of
    the decoder.

    Args:
        vlm: the model, not skipping.
        inputs: as for `generate_lossless`.
        gate: plan, signal and threshold, with over="token".
        max_new_tokens: longest answer in tokens; the end of text counts.
        streamer: a transformers streamer, for a single prompt; it gets each token once it stands.

    Raises:
        BridgeError: a gate over answers, a plan that skips nothing of text; else as
            `generate_lossless`, sampling included.

    Source:
        Decisions by token: Schuster et al. 2022, CALM, arXiv 2207.07061, which copies states to the
        layers that a token has left out; here they are computed. Drafting until the draft is
        unsure: Kim et al. 2023, BiLD, arXiv 2302.07863.

    Example:
        >>> gate = Gate(SkipPlan("block", 30, (11, 20)), "margin", 1.0, over="token")
        >>> found = generate_by_token(vlm, inputs, gate, max_new_tokens=64)  # doctest: +SKIP
        >>> found.plan_share  # doctest: +SKIP
        0.9
    """
    return decide_by_token(vlm, inputs, gate, max_new_tokens=max_new_tokens, streamer=streamer)[0]


def decide_by_token(
    vlm: VLM,
    inputs: Mapping[str, Any],
    gate: Gate,
    *,
    max_new_tokens: int,
    streamer: Any = None,
) -> tuple[TokenDecisions, float]:
    """What `generate_by_token` returns, and the seconds spent on signals."""
    check_vlm(vlm)
    check_token_gate(vlm, gate)
    settings = Settings(1, max_new_tokens, False, 1.0, 0, 1.0)
    check_call(vlm, inputs, streamer)
    given = options_of(inputs, "generate_by_token", _OWN)
    with drafts_of(vlm, gate.plan) as skipping:

        def run() -> tuple[TokenDecisions, float]:
            loop = _Loop(skipping, gate, max_new_tokens, streamer)
            with quiet_transformers():
                made: TokenDecisions = vlm.model.generate(
                    **given, **settings.of_generate, custom_generate=loop
                )
            return made, loop.deciding

        return finite(vlm, inputs, run)


def check_token_gate(vlm: VLM, gate: object) -> SkipPlan:
    """The plan of a gate; a `BridgeError` unless it can judge tokens of `vlm`."""
    if not isinstance(gate, Gate) or gate.over != "token":
        raise BridgeError(
            f"a gate with over='token' is wanted, got {shown(gate)}; make one as "
            "Gate(plan, 'margin', threshold, over='token')"
        )
    plan = given_draft(vlm, gate.plan)
    if not saves_in_decoding(plan):
        raise BridgeError(
            f"the plan skips nothing of the tokens of an answer: {plan.describe()}; what is judged "
            "token by token is a plan of block or sublayer"
        )
    return plan


class _Loop:
    """The decoding loop, as `generate` calls it with the arguments that it has prepared."""

    def __init__(self, skipping: Drafting, gate: Gate, longest: int, streamer: Any) -> None:
        self._skipping, self._gate, self._longest = skipping, gate, longest
        self._streamer, self.deciding = streamer, 0.0

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any = (),
        stopping_criteria: Any = None,
        generation_config: Any = None,
        **arguments: Any,
    ) -> TokenDecisions:
        """The answers."""
        batch, ends = GrowingBatch.of_call(model, input_ids, generation_config, arguments)
        rows = _Rows(len(input_ids), self._longest, ends)
        process = Process(batch, logits_processor)
        first = process(batch.prefill(generation_config), input_ids[:, :0]).argmax(-1)
        batch.add(first)
        rows.take(first[:, None], None)
        self._stream(input_ids)
        self._stream(first)
        # Tokens since all rows had caught up, and how many of these each row has still to catch up.
        since, pending = input_ids[:, :0], [0] * len(input_ids)
        full_passes, plan_passes = 1, 0
        while any(rows.going_on):
            new, signals, unsure = self._until_unsure(batch, process, rows, since)
            count = new.shape[1]
            plan_passes += count
            pending = [each + count for each in pending]
            if any(unsure):
                own = self._catch_up(
                    batch, process, torch.cat([since, new[:, :-1]], 1), pending, unsure
                )
                last = torch.where(torch.tensor(unsure, device=new.device), own, new[:, -1])
                new = torch.cat([new[:, :-1], last[:, None]], 1)
                pending = [0 if mine else each for mine, each in zip(unsure, pending, strict=True)]
                full_passes += 1
                self._stream(last)
            rows.take(new, signals, unsure)
            since = torch.cat([since, new], 1)
            behind = [n for n, goes in zip(pending, rows.going_on, strict=True) if goes]
            if behind and not any(behind):
                batch.keep(since, [since.shape[1]] * len(since), rows.going_on)
                since = since[:, :0]
        if self._streamer is not None:
            self._streamer.end()
        return rows.result(full_passes, plan_passes)

    def _catch_up(
        self,
        batch: GrowingBatch,
        process: Process,
        before: Tensor,
        pending: list[int],
        unsure: list[bool],
    ) -> Tensor:
        """(batch,) next tokens by the full model, which the cache of unsure rows is then of.

        The other rows keep what the plan has cached: no answer depends on those beside it.
        """
        count = max(n for n, mine in zip(pending, unsure, strict=True) if mine)
        states = batch.last_states(count)
        batch.rewind(count)
        logits = batch.run_last(before, count)[:, -1]
        batch.put_back(states, [row for row, mine in enumerate(unsure) if not mine])
        return process(logits, before).argmax(-1)

    def _until_unsure(
        self, batch: GrowingBatch, process: Process, rows: _Rows, since: Tensor
    ) -> tuple[Tensor, Tensor, list[bool]]:
        """(batch, k) tokens of the plan and their signals, and who is unsure of the last.

        The last pass is the first at which a row that goes on is unsure, or at which all have
        ended.
        """
        new, signals = since[:, :0], []
        with self._skipping():
            while True:
                before = torch.cat([since, new], 1)
                logits = batch.run_newest(before)
                token = process(logits, before).argmax(-1)
                start = time.perf_counter()
                signals.append(token_signal(logits, self._gate.signal))
                stands = self._gate.passes(signals[-1].tolist())
                self.deciding += time.perf_counter() - start
                going_on = rows.go_on_after(new)
                new = torch.cat([new, token[:, None]], 1)
                unsure = [goes and not sure for goes, sure in zip(going_on, stands, strict=True)]
                if not any(unsure):
                    self._stream(token)
                if any(unsure) or not any(rows.go_on_after(new)):
                    return new, torch.stack(signals, 1), unsure

    def _stream(self, tokens: Tensor) -> None:
        if self._streamer is not None:
            self._streamer.put(tokens.cpu())


class _Rows:
    """The answers so far, and who gave each token."""

    def __init__(self, count: int, longest: int, ends: list[int]) -> None:
        self._longest, self._ends = longest, set(ends)
        self._tokens: list[list[int]] = [[] for _ in range(count)]
        self._by_plan: list[list[bool]] = [[] for _ in range(count)]
        self._signals: list[list[float]] = [[] for _ in range(count)]
        self.going_on = [True] * count

    def _up_to_end(self, row: int, new: list[int]) -> tuple[list[int], bool]:
        """Those of `new` tokens that the answer still takes, and whether it goes on behind them."""
        new = new[: self._longest - len(self._tokens[row])]
        end = next((i for i, token in enumerate(new) if token in self._ends), None)
        if end is not None:
            return new[: end + 1], False
        return new, len(self._tokens[row]) + len(new) < self._longest

    def go_on_after(self, tokens: Tensor) -> list[bool]:
        """Which rows go on behind `tokens` (batch, k) that are not taken yet."""
        each = zip(self.going_on, tokens.tolist(), strict=True)
        return [goes and self._up_to_end(row, new)[1] for row, (goes, new) in enumerate(each)]

    def take(
        self, tokens: Tensor, signals: Tensor | None, unsure: list[bool] | None = None
    ) -> None:
        """Add `tokens` (batch, k) to the rows that go on; without `signals` they are full."""
        for row, new in enumerate(tokens.tolist()):
            if not self.going_on[row]:
                continue
            taken, self.going_on[row] = self._up_to_end(row, new)
            self._tokens[row] += taken
            if signals is None or unsure is None:
                self._by_plan[row] += [False] * len(taken)
                continue
            self._signals[row] += signals[row].tolist()[: len(taken)]
            by_plan = [True] * len(new)
            by_plan[-1] = not unsure[row]
            self._by_plan[row] += by_plan[: len(taken)]

    def result(self, full_passes: int, plan_passes: int) -> TokenDecisions:
        """The record of what was generated."""
        return TokenDecisions(
            tuple(map(tuple, self._tokens)),
            tuple(map(tuple, self._by_plan)),
            tuple(map(tuple, self._signals)),
            full_passes,
            plan_passes,
        )
