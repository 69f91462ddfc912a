"""Measure lossless generation: acceptance, time of its passes, and tokens per second."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.cost.in_turn import Ticks, answers_in_turn, inputs_of
from vlm_bridge.cost.measure import WARM_UP
from vlm_bridge.cost.phase import median_estimate, timed
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.given import check_items, check_vlm
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.provenance import MAX_NEW_TOKENS
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.progress import track
from vlm_bridge.runtime.quiet import quiet_transformers
from vlm_bridge.skip.lossless import LosslessTokens, generate_lossless
from vlm_bridge.skip.lossless.batch import GrowingBatch
from vlm_bridge.skip.lossless.checks import given_draft
from vlm_bridge.skip.lossless.draft import Drafting, drafts_of


@dataclass(frozen=True)
class PassTimes(Record):
    """Times of the passes of lossless generation after one prompt.

    Attributes:
        seconds_full: median of a decoding pass of the full model.
        draft_ratio: a draft pass over a decoding pass of the full model, median of paired ratios.
        verify_ratios: the same of a pass of the full model over k + 1 tokens, k = 1, 2, ...
    """

    seconds_full: float
    draft_ratio: Estimate
    verify_ratios: tuple[Estimate, ...]


@dataclass(frozen=True)
class LosslessSpeed(Record):
    """Measured speed of greedy decoding, full and lossless, one prompt at a time.

    Attributes:
        draft_tokens: k.
        per_second_full: tokens per second of the full model after the first, whose time is that of
            the prefill; median over prompts.
        time_ratio: time per token, lossless over full, of each prompt; the median over prompts.
            Both ways answer a prompt in turn, so that drift of the machine affects both, which it
            does not in a ratio of two medians over prompts.
        same_answers: prompts whose answers were equal token for token.
        prompts: number of timed prompts.
        acceptance: accepted over judged tokens of these answers; None if none was judged.
    """

    SCHEMA_VERSION: ClassVar[int] = 2
    DERIVED: ClassVar[tuple[str, ...]] = ("speed_up",)

    draft_tokens: int
    per_second_full: float
    time_ratio: Estimate
    same_answers: int
    prompts: int
    acceptance: float | None

    @property
    def speed_up(self) -> float:
        """Time of a token, full over lossless."""
        return 1 / self.time_ratio.value


def acceptance_rate(
    vlm: VLM,
    items: Sequence[Item],
    plan: SkipPlan | str,
    *,
    draft_tokens: int = 4,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Estimate:
    """Share of the judged drafted tokens that greedy lossless answers accept, by image.

    Of each item accepted / (accepted + rejected) counts; the estimate is the mean over images, with
    a betting interval. Items whose answer ends with its first token judge nothing and are left out.

    Raises:
        BridgeError: as `generate_lossless`, or no item judged a token.
    """
    check_vlm(vlm)
    plan = given_draft(vlm, plan)
    items = check_items(items)
    rates: list[float] = []
    clusters: list[str] = []
    with track("acceptance", len(items)) as advance:
        for item in items:
            found = generate_lossless(
                vlm,
                inputs_of(vlm, item),
                plan,
                draft_tokens=draft_tokens,
                max_new_tokens=max_new_tokens,
            )
            if found.acceptance_rate is not None:
                rates.append(found.acceptance_rate)
                clusters.append(item.cluster)
            advance(1)
    if not rates:
        raise BridgeError(
            f"no drafted token was judged in {len(items)} answers: they end at once; give other "
            "items, or more than 1 new token"
        )
    return clustered_mean(rates, clusters, bounds=(0, 1), unit="1")


def pass_times(
    vlm: VLM,
    inputs: Mapping[str, Tensor],
    plan: SkipPlan | str,
    *,
    most_drafts: int = 8,
    pairs: int = 15,
) -> PassTimes:
    """Time decoding passes behind one prompt: full, draft, and over 2 to `most_drafts` + 1 tokens.

    All run in turn in every pair, so that drift of the machine affects all; two turns warm up.

    Raises:
        BridgeError: as `generate_lossless`, `most_drafts` or `pairs` below 1.
    """
    check_vlm(vlm)
    plan = given_draft(vlm, plan)
    for name, value in (("most_drafts", most_drafts), ("pairs", pairs)):
        if value < 1:
            raise BridgeError(f"{name} is at least 1, got {value}")
    with drafts_of(vlm, plan) as drafting, quiet_transformers():
        timing = _Timing(vlm, drafting, most_drafts, pairs)
        seconds: list[list[float]] = vlm.model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=1, custom_generate=timing
        )
    full, *others = zip(*seconds[WARM_UP:], strict=True)
    ratios = [
        median_estimate([s / f for s, f in zip(other, full, strict=True)]) for other in others
    ]
    return PassTimes(statistics.median(full), ratios[0], tuple(ratios[1:]))


class _Timing:
    """Takes the place of the decoding loop of `generate` and times passes behind the prompt."""

    def __init__(self, vlm: VLM, drafting: Drafting, most: int, pairs: int) -> None:
        self._device, self._drafting, self._most, self._pairs = vlm.device, drafting, most, pairs

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any = (),
        stopping_criteria: Any = None,
        generation_config: Any = None,
        **arguments: Any,
    ) -> list[list[float]]:
        """Seconds of the full, the draft and the verifying passes of every turn."""
        batch = GrowingBatch(model, input_ids, 0, arguments)
        first = batch.prefill(generation_config).argmax(-1)
        batch.add(first)
        turns = []
        for _ in range(self._pairs + WARM_UP):
            turn = [self._time(batch, first, 0)]
            with self._drafting():
                turn.append(self._time(batch, first, 0))
            turn += [self._time(batch, first, k) for k in range(1, self._most + 1)]
            turns.append(turn)
        return turns

    def _time(self, batch: GrowingBatch, token: Tensor, k: int) -> float:
        """Seconds of a pass over the newest token and k others."""
        others = token[:, None].expand(-1, k)
        seconds = timed(lambda: batch.run(others), self._device)
        batch.take_back(k + 1)
        return seconds


def time_lossless(
    vlm: VLM,
    items: Sequence[Item],
    plan: SkipPlan | str,
    *,
    draft_tokens: int = 4,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> LosslessSpeed:
    """Time greedy answers of the full model and lossless ones in turn, one prompt at a time.

    Every item is a pair; see `answers_in_turn`.

    Raises:
        BridgeError: as `generate_lossless`, or no answer has two tokens.
    """
    check_vlm(vlm)
    plan = given_draft(vlm, plan)
    found: list[LosslessTokens] = []

    def answer(inputs: Mapping[str, Tensor], streamer: Ticks) -> tuple[int, ...]:
        made = generate_lossless(
            vlm,
            inputs,
            plan,
            draft_tokens=draft_tokens,
            max_new_tokens=max_new_tokens,
            streamer=streamer,
        )
        found.append(made)
        return made.tokens[0]

    times = answers_in_turn(vlm, items, answer, max_new_tokens=max_new_tokens)
    accepted = sum(each.accepted[0] for each in found)
    judged = accepted + sum(each.rejected[0] for each in found)
    return LosslessSpeed(
        draft_tokens,
        1 / statistics.median(times.full),
        times.ratio,
        times.same,
        times.prompts,
        accepted / judged if judged else None,
    )
