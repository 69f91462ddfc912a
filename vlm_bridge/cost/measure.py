"""Measure a plan on real inputs: full and skipped in turn, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from estimators.record import Record
from vlm_bridge.cost.flops import count_flops
from vlm_bridge.cost.memory import cache_bytes, peak_bytes
from vlm_bridge.cost.phase import PhaseCost, timed
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.progress import track
from vlm_bridge.skip import check_support, skipping

WARM_UP = 2


@dataclass(frozen=True)
class Cost(Record):
    """What a plan costs on one batch, beside the full model.

    Attributes:
        prefill: the pass over the prompt, vision tower included.
        decode: one generated token with the cache; None where it was not measured.
        kv_bytes_full: the cache after the prefill.
        kv_bytes_skipped: the same of the skipped model.
        peak_bytes_full: most bytes of activations and cache alive at once in the prefill,
            weights not counted.
        peak_bytes_skipped: the same of the skipped model.
        batch_size: sequences in the batch.
        length: tokens of the longest.
        device: where it ran, and on how many threads.
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
        """Bytes of the cache, skipped over full."""
        return self.kv_bytes_skipped / self.kv_bytes_full

    @property
    def peak_ratio(self) -> float:
        """Peak bytes, skipped over full."""
        return self.peak_bytes_skipped / self.peak_bytes_full


def measure_cost(
    vlm: VLM,
    items: Sequence[Item],
    plan: SkipPlan,
    *,
    batch_size: int = 16,
    pairs: int = 15,
    tokens: int = 0,
) -> Cost:
    """`cost_of_inputs` on the first `batch_size` of `items` as one batch.

    Raises:
        BridgeError: the plan does not fit the model, or there are no items.
    """
    return cost_of_inputs(
        vlm,
        next(batches(vlm, items[:batch_size], batch_size=batch_size)).inputs,
        plan,
        pairs=pairs,
        tokens=tokens,
    )


def cost_of_inputs(
    vlm: VLM,
    inputs: Mapping[str, Tensor],
    plan: SkipPlan,
    *,
    pairs: int = 15,
    tokens: int = 0,
) -> Cost:
    """Count and time `plan` on `inputs`, beside the full model in the same run.

    Full and skipped alternate, so that a machine that drifts slows both; two runs of each
    warm up. The interval of the median ratio is by order statistics.

    Args:
        vlm: the model.
        inputs: what the model's forward takes, on its device; they carry vision tokens.
        plan: what to skip.
        pairs: timed pairs of full and skipped, at least 1 (6 for an interval).
        tokens: generate so many tokens to measure `decode`; 0 leaves it out, 2 is the least.

    Raises:
        BridgeError: the model cannot do the plan, `pairs` below 1 or `tokens` of 1.
    """
    check_support(vlm, plan)
    return cost_inside(vlm, lambda: skipping(vlm, plan), inputs, pairs=pairs, tokens=tokens)


def cost_inside(
    vlm: VLM,
    inside: Callable[[], AbstractContextManager[Any]],
    inputs: Mapping[str, Tensor],
    *,
    pairs: int = 15,
    tokens: int = 0,
) -> Cost:
    """`cost_of_inputs` of whatever the model does inside the context that `inside` makes.

    Raises:
        BridgeError: `pairs` below 1 or `tokens` of 1.
    """
    if pairs < 1:
        raise BridgeError(f"a cost needs at least one timed pair, got pairs={pairs}")
    if tokens == 1 or tokens < 0:
        raise BridgeError(f"decoding is timed between tokens: tokens is 0 or 2 up, got {tokens}")
    runs = _Runs(vlm, inside, dict(inputs))
    flops = runs.both(lambda: count_flops(runs.prefill))
    seconds = runs.in_turn("prefill", lambda: timed(runs.prefill, vlm.device), pairs)
    prefill = PhaseCost.of(flops, *seconds)
    decode = None
    if tokens:
        more = runs.both(lambda: count_flops(lambda: runs.generate(tokens)))
        less = runs.both(lambda: count_flops(lambda: runs.generate(1)))
        per_token = [(m - s) // (tokens - 1) for m, s in zip(more, less, strict=True)]
        seconds = runs.in_turn("decoding", lambda: runs.seconds_per_token(tokens), pairs)
        decode = PhaseCost.of((per_token[0], per_token[1]), *seconds)
    kv = runs.both(lambda: cache_bytes(runs.prefill().past_key_values))
    peak = runs.both(lambda: peak_bytes(runs.prefill, vlm.device))
    return Cost(
        prefill=prefill,
        decode=decode,
        kv_bytes_full=kv[0],
        kv_bytes_skipped=kv[1],
        peak_bytes_full=peak[0],
        peak_bytes_skipped=peak[1],
        batch_size=len(inputs["input_ids"]),
        length=inputs["input_ids"].shape[1],
        device=f"{vlm.device} ({torch.get_num_threads()} threads)",
        dtype=str(vlm.model.dtype).removeprefix("torch."),
    )


class _Runs:
    """The same inputs through the full and through the skipped model."""

    def __init__(
        self,
        vlm: VLM,
        inside: Callable[[], AbstractContextManager[Any]],
        inputs: dict[str, Tensor],
    ) -> None:
        self.vlm, self.inside, self.inputs = vlm, inside, inputs

    @torch.no_grad()
    def prefill(self) -> Any:
        return self.vlm.model(**self.inputs, use_cache=True, logits_to_keep=1)

    @torch.no_grad()
    def generate(self, tokens: int, clock: _Clock | None = None) -> None:
        criteria = StoppingCriteriaList([] if clock is None else [clock])
        self.vlm.model.generate(
            **self.inputs,
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            stopping_criteria=criteria,
        )

    def seconds_per_token(self, tokens: int) -> float:
        """Mean over the steps after the first token, which ends the prefill."""
        clock = _Clock(self.vlm.device)
        self.generate(tokens, clock)
        return (clock.ticks[-1] - clock.ticks[0]) / (len(clock.ticks) - 1)

    def both(self, run: Callable[[], int]) -> tuple[int, int]:
        """(full, skipped)."""
        full = run()
        with self.inside():
            return full, run()

    def in_turn(
        self, what: str, run: Callable[[], float], pairs: int
    ) -> tuple[list[float], list[float]]:
        """Paired measurements of the full and of the skipped model, warm-up left out."""
        full, skipped = [], []
        with track(f"{what}, full and skipped in turn", pairs + WARM_UP) as advance:
            for _ in range(pairs + WARM_UP):
                full.append(run())
                with self.inside():
                    skipped.append(run())
                advance(1)
        return full[WARM_UP:], skipped[WARM_UP:]


class _Clock(StoppingCriteria):
    """Never stops; notes the time after every token."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ticks: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ticks.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
