"""Hooks of DeLask: the output of a layer whose update reverses is blended with its input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from vlm_bridge.methods.delask import DeLaskMethod
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.tensors import first_of, like, states_of


@contextlib.contextmanager
def blending(vlm: VLM, method: DeLaskMethod, plan: SkipPlan | None) -> Iterator[None]:
    """Hook every layer; an update is compared with the previous layer's in the same pass."""
    before: list[Tensor] = []

    def hook(index: int) -> Any:
        def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            states_in, states_out = states_of(args, kwargs), first_of(output)
            update = states_out - states_in.to(states_out.device)
            previous = before.pop() if index and before else None
            before[:] = [update]
            if previous is None:
                return None
            cosine = cosine_similarity(previous.to(update.device).float(), update.float(), dim=-1)
            reverses = (cosine < method.threshold)[..., None]
            return like(output, states_out - torch.where(reverses, method.blend * update, 0.0))

        return after

    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(vlm.layout.layers):
            stack.callback(layer.register_forward_hook(hook(index), with_kwargs=True).remove)
        yield
