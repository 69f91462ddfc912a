"""Latency of whole answers over a stream of questions: full model, fixed plan, adaptive plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from estimators import Estimate
from estimators.clustered import clustered_ratio
from estimators.record import Record
from vlm_bridge.cost.measure import WARM_UP
from vlm_bridge.cost.phase import timed
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import check_adaptive_support, timed_batch
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS, generated
from vlm_bridge.model.given import check_items, check_vlm
from vlm_bridge.model.prompts import (
    Batch,
    batch_places,
    check_batch_size,
    check_takes,
    collate,
)
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.runtime.progress import track
from vlm_bridge.skip import skipping


@dataclass(frozen=True)
class StreamLatency(Record):
    """Seconds for the same questions, batch after batch, the three kinds of run in turn.

    Attributes:
        batch_size: questions in a batch, at most; 1 is one question after another.
        n_batches, n_questions: timed ones.
        seconds_full: of the full model, all batches together.
        seconds_fixed: of the plan of the first gate, all answers standing.
        seconds_adaptive: of the adaptive plan.
        fixed_ratio, adaptive_ratio: sums of seconds over those of the full model; the interval is
            over batches, at batch size 1 over images.
        full_share: share of answers that the full model gave under the adaptive plan, of a gate
            over tokens, those of which it gave more than the first token.
        decision_share: seconds spent on signals, over the full model's seconds.
        device: device and number of threads.
        dtype: of the weights.
    """

    batch_size: int
    n_batches: int
    n_questions: int
    seconds_full: float
    seconds_fixed: float
    seconds_adaptive: float
    fixed_ratio: Estimate
    adaptive_ratio: Estimate
    full_share: float
    decision_share: float
    device: str
    dtype: str


def stream_latency(
    vlm: VLM,
    items: Iterable[Item],
    plan: AdaptivePlan,
    *,
    batch_size: int,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> StreamLatency:
    """Time whole answers to every batch by the full model, the first gate's plan, and `plan`.

    At `batch_size` 1 every question is a batch, as in a stream of single requests; in larger
    batches the questions of an image stay together, so that one may hold more than `batch_size`.
    Making the model's inputs from images and text is not timed. The first batch warms up. The order
    of the three changes from batch to batch.

    Raises:
        BridgeError: as `adaptive_answers`, and as `stream_places`.
    """
    check_vlm(vlm)
    check_adaptive_support(vlm, plan)
    items = check_items(items)
    by_batch = stream_places(items, batch_size)
    check_takes(vlm, items)
    made = [collate(vlm, items, places) for places in by_batch]
    units = _units(items, by_batch, batch_size)
    on_full, deciding, seconds = 0, 0.0, [[0.0] * len(made) for _ in range(3)]

    def full(batch: Batch) -> None:
        with vlm.whole():
            _texts(vlm, batch, max_new_tokens)

    def fixed(batch: Batch) -> None:
        with skipping(vlm, plan.gates[0].plan):
            _texts(vlm, batch, max_new_tokens)

    def adaptive(batch: Batch) -> None:
        nonlocal on_full, deciding
        answers, of_signals = timed_batch(vlm, batch, plan, max_new_tokens=max_new_tokens)
        on_full += answers.gates.count(len(plan.gates))
        deciding += of_signals

    ways = (full, fixed, adaptive)
    for _ in range(WARM_UP):
        for way in ways:
            way(made[0])
    on_full, deciding = 0, 0.0
    with track("answers: full, fixed and adaptive in turn", len(made)) as advance:
        for number, batch in enumerate(made):
            for turn in range(len(ways)):
                which = (number + turn) % len(ways)
                seconds[which][number] = timed(partial(ways[which], batch), vlm.device)
            advance(1)
    n = len(items)
    of_full, of_fixed, of_adaptive = seconds
    return StreamLatency(
        batch_size=batch_size,
        n_batches=len(made),
        n_questions=n,
        seconds_full=sum(of_full),
        seconds_fixed=sum(of_fixed),
        seconds_adaptive=sum(of_adaptive),
        fixed_ratio=clustered_ratio(of_fixed, of_full, units),
        adaptive_ratio=clustered_ratio(of_adaptive, of_full, units),
        full_share=on_full / n,
        decision_share=deciding / sum(of_full),
        device=f"{vlm.device} ({torch.get_num_threads()} threads)",
        dtype=str(vlm.model.dtype).removeprefix("torch."),
    )


def stream_places(items: Sequence[Item], batch_size: int) -> list[list[int]]:
    """The indices of the items of each batch that `stream_latency` times.

    Raises:
        BridgeError: no items, a `batch_size` below 1, or fewer than two batches (at batch size 1:
            images), which give no interval.
    """
    check_batch_size(batch_size)
    by_unit = batch_places(items, batch_size)
    by_batch = [[place] for place in range(len(items))] if batch_size == 1 else by_unit
    if len(set(_units(items, by_batch, batch_size))) < 2:
        raise BridgeError(
            f"{len(items)} questions make 1 batch of {batch_size}, all or about one image, and one "
            "gives no interval of latency; time more questions, about other images"
        )
    return by_batch


def _units(items: Sequence[Item], by_batch: Sequence[Sequence[int]], size: int) -> list[str]:
    """The independent unit of each batch: its image if it is one question, else the batch."""
    if size == 1:
        return [items[places[0]].cluster for places in by_batch]
    return [str(number) for number in range(len(by_batch))]


def _texts(vlm: VLM, batch: Batch, longest: int) -> tuple[str, ...]:
    return generated(vlm, batch.inputs, max_new_tokens=longest, names=batch.names).texts(vlm)
