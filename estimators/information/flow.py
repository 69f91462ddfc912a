"""Marginal normalising flows in front of the Gaussian estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from estimators._arrays import Rows
from estimators._training import descend
from estimators.estimate import Estimate
from estimators.extras import require
from estimators.information._canonical import canonical
from estimators.information._neighbours import standardised
from estimators.information._request import Request
from estimators.information.copula import normal_scores
from estimators.information.spiked import of_pair

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = 10
_STOP = 0.2


def flow(
    x: Rows,
    y: Rows,
    ask: Request,
    *,
    layers: int = 6,
    width: int = 32,
    epochs: int = 100,
    rate: float = 1e-2,
) -> Estimate:
    """Map each side to a Gaussian by an invertible flow, then `gaussian_pair`.

    Mutual information is invariant under invertible maps of either side, and a flow that makes a
    side Gaussian undoes non-linear distortions. It cannot undo maps that keep a side Gaussian
    (such as a spiral), nor a scale that both sides share; the checks of the mapped rows are
    meant to detect these. The flow has affine coupling layers, trained by maximum likelihood on
    each side separately, so that the fit cannot create dependence, with early stopping on a
    fifth of the clusters. A single column is mapped by its ranks.

    Args:
        x: (n, p) rows.
        y: (n, q) rows.
        ask: level, clusters, permutations and seed.
        layers: number of coupling layers.
        width: width of the networks in a layer.
        epochs: largest number of passes.
        rate: learning rate of AdamW.

    Raises:
        ValueError: n - 1 < d_x + d_y, or sizes below 1.

    Source:
        Coupling layers: Dinh et al. 2017, arXiv 1605.08803, eq. (4) to (8). In front of a Gaussian
        estimate: PID Flow, arXiv 2602.15580.
    """
    if min(layers, width, epochs) < 1:
        raise ValueError(f"layers, width and epochs count from 1, got {layers}, {width}, {epochs}")
    mapped, gains = [], {}
    for name, side in (("x", x), ("y", y)):
        rows, gain = _gaussianised(side, ask, layers, width, epochs, rate)
        mapped.append(rows)
        gains[f"likelihood_gain_{name}"] = gain
    pair = canonical(mapped[0], mapped[1], ask.codes)
    return of_pair(pair, ask, method="flow, then gaussian", front=gains)


def _gaussianised(
    side: Rows, ask: Request, layers: int, width: int, epochs: int, rate: float
) -> tuple[Rows, float]:
    """Rows after normal scores and flow, and the gain in held-out log likelihood per row."""
    require("a flow", "torch", "neural")
    import torch

    from_ranks = normal_scores(side)
    n, d = side.shape
    if d == 1:
        return from_ranks, 0.0
    rng = np.random.default_rng(ask.seed)
    codes = np.arange(n) if ask.codes is None else ask.codes
    judge = (rng.permutation(ask.cluster_count(n))[codes] / ask.cluster_count(n)) < _STOP
    white = standardised(from_ranks)
    rows = torch.tensor(white, dtype=torch.float32)
    generator = torch.Generator().manual_seed(ask.seed)
    weights = [_coupling(d, width, generator) for _ in range(layers)]
    masks = [((torch.arange(d) + k) % 2).float() for k in range(layers)]
    parameters = [w for layer in weights for w in layer]

    def loss(part: Tensor) -> Tensor:
        z, log_det = _forward(part, weights, masks)
        return (0.5 * (z**2).sum(dim=1) - log_det).mean()

    inner = rows[torch.tensor(judge)]
    with torch.no_grad():
        start = float(loss(inner))
    best, _ = descend(
        parameters,
        lambda part: loss(rows[part]),
        lambda: float(loss(inner)),
        torch.tensor(np.flatnonzero(~judge)),
        generator=generator,
        epochs=epochs,
        batch=512,
        rate=rate,
        patience=_PATIENCE,
    )
    with torch.no_grad():
        z, _ = _forward(rows, weights, masks)
    return z.double().numpy(), start - best


def _coupling(d: int, width: int, generator: Any) -> list[Any]:
    """Weights of a network from the fixed coordinates to log scales and shifts, initially 0."""
    import torch

    into = torch.randn(d, width, generator=generator) / d**0.5
    return [into, torch.zeros(width), torch.zeros(width, 2 * d), torch.zeros(2 * d)]


def _forward(rows: Tensor, weights: list[list[Any]], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mapped rows and their log determinants."""
    import torch

    z, log_det = rows, torch.zeros(len(rows))
    for (into, shift, out, constant), mask in zip(weights, masks, strict=True):
        hidden = torch.nn.functional.gelu((z * mask) @ into + shift) @ out + constant
        log_scale, move = hidden.chunk(2, dim=1)
        log_scale = 2.0 * torch.tanh(log_scale / 2.0) * (1 - mask)
        z = z * torch.exp(log_scale) + move * (1 - mask)
        log_det = log_det + log_scale.sum(dim=1)
    return z, log_det
