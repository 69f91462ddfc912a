"""Measure the cost of a plan on real inputs, alternating the full and the skipped model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from estimators.record import Record
from vlm_bridge.cost.flops import count_flops
from vlm_bridge.cost.memory import cache_bytes, peak_bytes
from vlm_bridge.cost.phase import PhaseCost, timed
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.encoder_decoder import last_only, one_call, with_decoder_start
from vlm_bridge.model.finite import finite
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.progress import track
from vlm_bridge.runtime.quiet import quiet_transformers
from vlm_bridge.skip import check_support, skipping

WARM_UP = 2

T = TypeVar("T")

#: Makes the context in which the model skips.
Inside = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Cost(Record):
    """Cost of the full model and of a plan on one batch.

    Attributes:
        prefill: the forward pass over the prompt, encoders of images and audio included; of an
            encoder-decoder the encoder's pass, and the decoder's over the start of the answer.
        decode: one generated token with the cache; None if not measured.
        kv_bytes_full, kv_bytes_skipped: bytes of the cache after the prefill.
        peak_bytes_full, peak_bytes_skipped: peak of activations and cache in the prefill.
        batch_size, length: sequences, and tokens of the longest prompt; of an encoder-decoder, of
            the start of the answer.
        device: device and number of threads.
        dtype: of the weights.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("kv_ratio", "peak_ratio")

    prefill: PhaseCost
    decode: PhaseCost | None
    kv_bytes_full: int
    kv_bytes_skipped: int
    peak_bytes_full: int
    peak_bytes_skipped: int
    batch_size: int
    length: int
    device: str
    dtype: str

    @property
    def kv_ratio(self) -> float:
        """Cache bytes, skipped/full."""
        return self.kv_bytes_skipped / self.kv_bytes_full

    @property
    def peak_ratio(self) -> float:
        """Peak bytes, skipped/full."""
        return self.peak_bytes_skipped / self.peak_bytes_full


def measure_cost(
    vlm: VLM,
    items: Sequence[Item],
    plan: SkipPlan | str,
    *,
    batch_size: int = 16,
    pairs: int = 15,
    tokens: int = 0,
) -> Cost:
    """Cost of a plan on one batch, the first `batch_size` items; arguments of `cost_of_inputs`.

    Raises:
        BridgeError: the model does not support the plan, or there are no items.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = check_items(items)
    batch = next(batches(vlm, items[:batch_size], batch_size=batch_size))
    return cost_of_inputs(vlm, batch.inputs, plan, pairs=pairs, tokens=tokens)


def cost_of_inputs(
    vlm: VLM,
    inputs: Mapping[str, Tensor],
    plan: SkipPlan | str,
    *,
    pairs: int = 15,
    tokens: int = 0,
) -> Cost:
    """Count FLOPs and bytes and measure latency of the full model and of `plan` on `inputs`.

    Full and skipped runs alternate, so that drift of the machine affects both; two runs of each
    warm up. The interval of the median latency ratio is that of order statistics, of at least 6
    `pairs`. `inputs` are arguments of the model's forward, on its device, with vision tokens;
    `tokens`, 0 or at least 2, are generated to measure `decode`.

    Raises:
        BridgeError: the model does not support the plan, `pairs` below 1, or `tokens` of 1.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    check_support(vlm, plan)
    return cost_inside(vlm, lambda: skipping(vlm, plan), inputs, pairs=pairs, tokens=tokens)


def prefill_pairs(
    vlm: VLM, items: Sequence[Item], plan: SkipPlan | str, *, batch_size: int = 16, pairs: int = 15
) -> tuple[PhaseCost, tuple[float, ...]]:
    """Cost of the prefill of the first `batch_size` items, and every paired ratio of its latency.

    As the `prefill` of `measure_cost`, without memory and decoding. Ratios are skipped/full,
    (pairs,).

    Raises:
        BridgeError: as `measure_cost`.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    check_support(vlm, plan)
    _check_pairs(pairs)
    batch = next(batches(vlm, check_items(items)[:batch_size], batch_size=batch_size))
    inputs = with_decoder_start(vlm, batch.inputs)
    runs = _Runs(vlm, lambda: skipping(vlm, plan), inputs)
    runs.full_and_skipped(lambda: finite(vlm, inputs, runs.prefill))  # refuses a broken model
    flops = runs.full_and_skipped(lambda: count_flops(runs.prefill))
    full, skipped = runs.in_turn("prefill", lambda: timed(runs.prefill, vlm.device), pairs)
    ratios = tuple(s / f for s, f in zip(skipped, full, strict=True))
    return PhaseCost.of(flops, full, skipped), ratios


def cost_inside(
    vlm: VLM, inside: Inside, inputs: Mapping[str, Tensor], *, pairs: int = 15, tokens: int = 0
) -> Cost:
    """`cost_of_inputs` with the context that `inside` returns in place of a plan."""
    _check_pairs(pairs)
    if tokens == 1 or tokens < 0:
        raise BridgeError(f"decoding is timed between tokens: tokens is 0 or 2 up, got {tokens}")
    inputs = with_decoder_start(vlm, inputs)
    runs = _Runs(vlm, inside, inputs)
    prompt = inputs["decoder_input_ids" if vlm.layout.encoder_decoder else "input_ids"]
    runs.full_and_skipped(lambda: finite(vlm, inputs, runs.prefill))  # refuses a broken model
    flops = runs.full_and_skipped(lambda: count_flops(runs.prefill))
    seconds = runs.in_turn("prefill", lambda: timed(runs.prefill, vlm.device), pairs)
    prefill, decode = PhaseCost.of(flops, *seconds), None
    if tokens:
        all_tokens = runs.full_and_skipped(lambda: count_flops(lambda: runs.generate(tokens)))
        first = runs.full_and_skipped(lambda: count_flops(lambda: runs.generate(1)))
        full, skipped = ((a - b) // (tokens - 1) for a, b in zip(all_tokens, first, strict=True))
        seconds = runs.in_turn("decoding", lambda: runs.seconds_per_token(tokens), pairs)
        decode = PhaseCost.of((full, skipped), *seconds)
    return Cost(
        prefill,
        decode,
        *runs.full_and_skipped(lambda: cache_bytes(runs.prefill().past_key_values)),
        *runs.full_and_skipped(lambda: peak_bytes(runs.prefill, vlm.device)),
        batch_size=len(prompt),
        length=prompt.shape[1],
        device=f"{vlm.device} ({torch.get_num_threads()} threads)",
        dtype=str(vlm.model.dtype).removeprefix("torch."),
    )


def _check_pairs(pairs: int) -> None:
    if pairs < 1:
        raise BridgeError(f"a cost needs at least one timed pair, got pairs={pairs}")


@dataclass(frozen=True)
class _Runs:
    """Runs of the full and of the skipped model on the same inputs."""

    vlm: VLM
    inside: Inside
    inputs: dict[str, Tensor]

    @torch.no_grad()
    def prefill(self) -> Any:
        return self.vlm.model(**self.inputs, use_cache=True, **last_only(self.vlm))

    @torch.no_grad()
    def generate(self, tokens: int, *criteria: StoppingCriteria) -> None:
        options: dict[str, Any] = {"min_new_tokens": tokens, "max_new_tokens": tokens}
        options |= {"do_sample": False, "stopping_criteria": StoppingCriteriaList(criteria)}
        with quiet_transformers():
            self.vlm.model.generate(**self.inputs, **options, **one_call(self.vlm))

    def seconds_per_token(self, tokens: int) -> float:
        """Mean seconds of a step after the first token, which belongs to the prefill."""
        clock = _Clock(self.vlm.device)
        self.generate(tokens, clock)
        return (clock.ticks[-1] - clock.ticks[0]) / (len(clock.ticks) - 1)

    def full_and_skipped(self, run: Callable[[], T]) -> tuple[T, T]:
        """Results of the full and of the skipped model."""
        full = run()
        with self.inside():
            return full, run()

    def in_turn(
        self, phase: str, run: Callable[[], float], pairs: int
    ) -> tuple[list[float], list[float]]:
        """Paired measurements of the full and of the skipped model, without the warm-up."""
        full, skipped = [], []
        with track(f"{phase}, full and skipped in turn", pairs + WARM_UP) as advance:
            for _ in range(pairs + WARM_UP):
                full.append(run())
                with self.inside():
                    skipped.append(run())
                advance(1)
        return full[WARM_UP:], skipped[WARM_UP:]


class _Clock(StoppingCriteria):
    """Records the time after every token and never stops generation."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ticks: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ticks.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
