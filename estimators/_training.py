"""Mini-batch training of small networks with early stopping on a validation loss."""

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
    """Train with AdamW on shuffled batches and restore the parameters of the least `judge` loss.

    `judge` is also evaluated before the first epoch, so training never increases it.

    Args:
        parameters: tensors, modified in place.
        loss: training loss of a batch of row numbers.
        judge: validation loss.
        rows: row numbers of the training set.
        generator: random generator of the shuffles.
        epochs: largest number of passes.
        batch: rows per step.
        rate: learning rate of AdamW.
        patience: epochs without improvement before training stops.
        better: smallest decrease that counts as an improvement.
        weight_decay: weight decay of AdamW.
        smallest: batches with fewer rows are skipped.
        progress: called with (epoch, epochs) after each epoch.

    Returns:
        The least validation loss and the number of epochs run.
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
    saved = [parameter.detach().clone() for parameter in parameters]
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
            saved = [parameter.detach().clone() for parameter in parameters]
        elif (waited := waited + 1) > patience:
            break
    with torch.no_grad():
        for parameter, value in zip(parameters, saved, strict=True):
            parameter.copy_(value)
    return best, run
