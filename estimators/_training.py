"""Small networks trained by batches, stopped where rows set aside like them best."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from estimators.extras import require

if TYPE_CHECKING:
    from torch import Tensor


def descend(
    parameters: list[Any],
    loss: Callable[[Tensor], Tensor],
    judge: Callable[[], float],
    rows: Tensor,
    *,
    generator: Any,
    epochs: int,
    batch: int,
    rate: float,
    patience: int,
    better: float = 1e-4,
    weight_decay: float = 0.0,
    smallest: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, int]:
    """AdamW on shuffled batches; the parameters end as they were at the least `judge`.

    `judge` is asked before the first epoch too, so what comes out is never worse there than
    what went in.

    Args:
        parameters: tensors, changed in place.
        loss: of a batch of row numbers.
        judge: loss on rows that do not train.
        rows: row numbers that train.
        generator: of the shuffles.
        epochs: at most so many passes.
        batch: rows in a step.
        rate: of AdamW.
        patience: epochs without a better judgement that are waited for.
        better: how much less counts as better.
        weight_decay: of AdamW.
        smallest: batches with fewer rows are left out.
        progress: called with (epoch, epochs) after each.

    Returns:
        The least judgement, and the number of epochs run.
    """
    require("training", "torch", "neural")
    import torch

    for parameter in parameters:
        parameter.requires_grad_()
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)

    def judged() -> float:
        with torch.no_grad():
            return judge()

    best, waited, run = judged(), 0, 0
    kept = [parameter.detach().clone() for parameter in parameters]
    for _ in range(epochs):
        for part in rows[torch.randperm(len(rows), generator=generator)].split(batch):
            if len(part) < smallest:
                continue
            optimiser.zero_grad(set_to_none=True)
            loss(part).backward()
            optimiser.step()
        run += 1
        if progress is not None:
            progress(run, epochs)
        now = judged()
        if now < best - better:
            best, waited = now, 0
            kept = [parameter.detach().clone() for parameter in parameters]
        elif (waited := waited + 1) > patience:
            break
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return best, run
