"""Count floating-point operations while the model runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
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
    sdpa_on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={sdpa_on_cpu: _sdpa_flops}) as counter:
        run()
    return int(counter.get_total_flops())


def _sdpa_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    # torch's counter counts the CPU's attention kernel, and no other, as zero.
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])
