"""A seeded optimisation that continues bit for bit after a kill."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import AdamW

from vlm_bridge.reference.recipe import Schedule
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.runtime.progress import track

log = logging.getLogger(__name__)

Parameters = Mapping[str, torch.nn.Parameter]


def fit(
    parameters: Parameters,
    loss_at: Callable[[int], Tensor],
    schedule: Schedule,
    checkpoint: Path,
    *,
    title: str,
    log_every: int = 25,
) -> None:
    """Minimise `loss_at(step)` over `parameters` for `schedule.steps` steps, in place.

    `loss_at` must derive all randomness from its step number, so that a resumed run equals an
    uninterrupted one. The checkpoint holds the parameters and both Adam moments.
    """
    values, decay = list(parameters.values()), schedule.weight_decay
    optimiser = AdamW(values, schedule.rate, betas=(0.9, 0.98), weight_decay=decay)
    start = _restore(parameters, optimiser, checkpoint)
    if start:
        log.info("%s: resumed at step %d from %s", title, start, checkpoint)
    with track(title, schedule.steps) as advance:
        advance(start)
        recent: list[float] = []
        for step in range(start, schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate * _cosine(step, schedule)
            optimiser.zero_grad(set_to_none=True)
            loss = loss_at(step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(values, schedule.clip)
            optimiser.step()
            recent.append(float(loss.detach()))
            if (step + 1) % log_every == 0:
                mean = sum(recent) / len(recent)
                log.info("%s: step %d/%d loss %.4f", title, step + 1, schedule.steps, mean)
                recent.clear()
            advance(1)
            if (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps:
                _save(parameters, optimiser, checkpoint, step + 1)


def _cosine(step: int, schedule: Schedule) -> float:
    """Share of the learning rate: linear warm-up, then cosine decay to zero."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    progress = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def _save(parameters: Parameters, optimiser: AdamW, checkpoint: Path, step: int) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        state = optimiser.state[parameter]
        tensors[f"value.{name}"] = parameter.detach().contiguous()
        tensors[f"exp_avg.{name}"] = state["exp_avg"].contiguous()
        tensors[f"exp_avg_sq.{name}"] = state["exp_avg_sq"].contiguous()
    write_bytes(checkpoint, save(tensors, metadata={"step": str(step)}))


def _restore(parameters: Parameters, optimiser: AdamW, checkpoint: Path) -> int:
    """Load parameters and moments; returns the number of steps done, 0 without a checkpoint."""
    if not checkpoint.is_file():
        return 0
    with safe_open(checkpoint, framework="pt") as stored:
        step = int(stored.metadata()["step"])
        for name, parameter in parameters.items():
            with torch.no_grad():
                parameter.copy_(stored.get_tensor(f"value.{name}"))
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": stored.get_tensor(f"exp_avg.{name}"),
                "exp_avg_sq": stored.get_tensor(f"exp_avg_sq.{name}"),
            }
    return step
