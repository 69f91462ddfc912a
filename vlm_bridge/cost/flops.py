"""Count floating-point operations while the model runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention in `run`.

    A multiplication and an addition count as two. Element-wise work (norms, activations, gathering
    rows) is not counted, so latency falls less than FLOPs.

    Example:
        >>> a, b = torch.ones(3, 5), torch.ones(5, 7)
        >>> count_flops(lambda: a @ b)
        210
    """
    return flops_before(run, ())[0]


def flops_before(
    run: Callable[[], object], modules: Sequence[nn.Module]
) -> tuple[int, list[int | None]]:
    """FLOPs of `run`, and those before the first call of each module; None for one not called.

    Example:
        >>> first, second = torch.nn.Linear(3, 5), torch.nn.Linear(5, 7)
        >>> flops_before(lambda: second(first(torch.ones(2, 3))), [first, second])
        (200, [0, 60])
    """
    sdpa_on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    before: list[int | None] = [None] * len(modules)

    def note(place: int, *_: object) -> None:
        if before[place] is None:
            before[place] = int(counter.get_total_flops())

    with ExitStack() as handles:
        for place, module in enumerate(modules):
            handles.callback(module.register_forward_pre_hook(partial(note, place)).remove)
        with FlopCounterMode(display=False, custom_mapping={sdpa_on_cpu: _sdpa_flops}) as counter:
            run()
    return int(counter.get_total_flops()), before


def _sdpa_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    # torch's counter counts the CPU's attention kernel, and no other, as zero.
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])
