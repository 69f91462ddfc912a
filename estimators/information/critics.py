"""Neural lower bounds of mutual information, evaluated on held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators._training import descend
from estimators.estimate import Estimate
from estimators.extras import require
from estimators.information._neighbours import standardised
from estimators.information._request import Request

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("infonce", "nwj", "mine", "smile")
#: Clipping of SMILE scores, in nats.
CLIP = 5.0
_TRAIN, _STOP = 0.6, 0.2
_PATIENCE = 10
_BLOCK = 256


def neural_bound(
    kind: str,
    x: Rows,
    y: Rows,
    ask: Request,
    *,
    width: int = 128,
    epochs: int = 200,
    batch: int = _BLOCK,
    rate: float = 1e-3,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Lower bound of I(X; Y) from a trained critic s(x, y), on held-out blocks of m rows.

        infonce  mean_i [s(x_i, y_i) - ln mean_j exp s(x_i, y_j)]    at most ln m; low variance
        nwj      1 + mean_joint[s] - mean_product[exp s]             high variance
        mine     mean_joint[s] - ln mean_product[exp s]              Donsker-Varadhan
        smile    as mine, product scores clipped to +-5 nats         biased, lower variance

    60 % of the clusters train, 20 % are for early stopping and 20 % for the value: on its
    training rows a critic overfits by nats. The critic is separable,
    `s(x, y) = f(x)' g(y) / sqrt(w)`, with f and g a hidden layer plus a linear map; trained by
    the bound itself, or by the Jensen-Shannon loss for "smile", which is no bound. Never
    reliable: the distance of the bound from the truth is unknown.

    Args:
        kind: the bound, see above.
        x: (n, p) rows.
        y: (n, q) rows.
        ask: level, clusters and seed of the estimate.
        width: width of the networks.
        epochs: largest number of passes; training stops after ten without improvement.
        batch: rows per step.
        rate: learning rate of AdamW.
        device: device of the training, "cpu" or "cuda".
        progress: called with (epoch, epochs) after each epoch.

    Raises:
        ValueError: an unknown kind, fewer than 100 clusters, or sizes below 1.

    Source:
        infonce: van den Oord et al. 2018, arXiv 1807.03748, eq. (4); nwj: Nguyen et al. 2010,
        IEEE Trans. Inf. Theory 56; mine: Belghazi et al. 2018, arXiv 1801.04062, eq. (10);
        smile: Song and Ermon 2020, arXiv 1910.06222, eq. (10).
    """
    require("a neural bound", "torch", "neural")
    import torch

    if kind not in KINDS:
        raise ValueError(f"unknown bound '{kind}'; choose from {', '.join(KINDS)}")
    n = len(x)
    if ask.cluster_count(n) < 100:
        raise ValueError(
            f"a neural bound needs at least 100 independent clusters, got {ask.cluster_count(n)}"
        )
    if min(width, epochs, batch) < 1:
        raise ValueError(f"width, epochs and batch count from 1, got {width}, {epochs}, {batch}")
    parts = _split(ask, n)
    a, b = (torch.tensor(standardised(side), dtype=torch.float32, device=device) for side in (x, y))
    generator = torch.Generator().manual_seed(ask.seed)
    f, g = (_tower(side.shape[1], width, generator, device) for side in (a, b))
    for weight in (g[2], g[3]):  # all scores start at 0, where every bound is 0
        weight.zero_()

    def scores(rows: Tensor) -> Tensor:
        table: Tensor = _embed(a[rows], f) @ _embed(b[rows], g).T / width**0.5
        return table

    rows, stop = (torch.tensor(parts[name]) for name in ("train", "stop"))
    _, run = descend(
        [*f, *g],
        lambda part: -_objective(kind, scores(part)),
        lambda: -float(np.mean(_terms(kind, scores, stop))),
        rows,
        generator=generator,
        epochs=epochs,
        batch=batch,
        rate=rate,
        patience=_PATIENCE,
        better=1e-3,
        smallest=2,
        progress=progress,
    )
    with torch.no_grad():
        terms = _terms(kind, scores, torch.tensor(parts["held"]))
        seen = float(np.mean(_terms(kind, scores, rows)))
    value, spread = float(np.mean(terms)), float(np.var(terms, ddof=1) / len(terms))
    doubts = [] if kind == "smile" else _saturated(kind, value, len(parts["held"]) // len(terms))
    doubts.append(
        "a neural bound lies below the truth by an unknown amount"
        if kind != "smile"
        else "clipped scores give no bound: the value may lie above or below the truth"
    )
    return ask.information(
        value,
        spread,
        n=n,
        d=x.shape[1] + y.shape[1],
        method=f"{kind} (held out)",
        doubts=doubts,
        diagnostics={
            "training_value": seen,
            "held_out_rows": len(parts["held"]),
            "epochs": run,
        },
    )


def _split(ask: Request, n: int) -> dict[str, NDArray[np.int64]]:
    """Shuffled row numbers for training, stopping and evaluation, split by cluster."""
    rng = np.random.default_rng(ask.seed)
    codes = np.arange(n) if ask.codes is None else ask.codes
    place = rng.permutation(ask.cluster_count(n))[codes] / ask.cluster_count(n)
    edges = {
        "train": (0.0, _TRAIN),
        "stop": (_TRAIN, _TRAIN + _STOP),
        "held": (_TRAIN + _STOP, 1.0),
    }
    return {
        name: rng.permutation(np.flatnonzero((place >= low) & (place < high)))
        for name, (low, high) in edges.items()
    }


def _tower(inputs: int, width: int, generator: Any, device: str) -> list[Any]:
    """Weights of `W2 gelu(W1 x + c) + V x + b`."""
    import torch

    def normal(rows: int, columns: int) -> Tensor:
        drawn: Tensor = torch.randn(rows, columns, generator=generator) / rows**0.5
        return drawn.to(device)

    zeros = torch.zeros(width, device=device)
    return [
        normal(inputs, width),
        zeros.clone(),
        normal(width, width),
        normal(inputs, width),
        zeros,
    ]


def _embed(rows: Tensor, weights: list[Any]) -> Tensor:
    import torch

    into, shift, out, straight, constant = weights
    hidden: Tensor = torch.nn.functional.gelu(rows @ into + shift)
    embedded: Tensor = hidden @ out + rows @ straight + constant
    return embedded


def _objective(kind: str, table: Tensor) -> Tensor:
    """Training objective of a table of scores s(x_i, y_j)."""
    import torch

    m = len(table)
    joint = table.diagonal()
    off = table[~torch.eye(m, dtype=torch.bool, device=table.device)]
    if kind == "infonce":
        return (joint - torch.logsumexp(table, dim=1)).mean()
    if kind == "nwj":
        return joint.mean() + 1.0 - torch.exp(off.clamp(max=20.0)).mean()
    if kind == "mine":
        return joint.mean() - torch.logsumexp(off, dim=0)
    softplus = torch.nn.functional.softplus
    return -softplus(-joint).mean() - softplus(off).mean()


def _terms(kind: str, scores: Callable[[Tensor], Tensor], rows: Tensor) -> list[float]:
    """The bound on disjoint blocks of rows; its mean is the estimate."""
    import torch

    bounds = []
    blocks = max(2, -(-len(rows) // _BLOCK))
    for part in rows.tensor_split(blocks):
        table = scores(part).double()
        m = len(table)
        joint = table.diagonal()
        off = table[~torch.eye(m, dtype=torch.bool, device=table.device)]
        if kind == "infonce":
            bounds.append(float((joint - torch.logsumexp(table, dim=1)).mean() + np.log(m)))
        elif kind == "nwj":
            bounds.append(float(joint.mean() + 1.0 - torch.exp(off).mean()))
        else:
            clipped = off.clamp(-CLIP, CLIP) if kind == "smile" else off
            top = torch.logsumexp(clipped, dim=0) - np.log(len(clipped))
            bounds.append(float(joint.mean() - top))
    return bounds


def _saturated(kind: str, value: float, block: int) -> list[str]:
    if kind == "infonce" and value > 0.8 * np.log(block):
        return [
            f"near the largest value of a block of {block} rows, ln {block} = {np.log(block):.2f}"
        ]
    return []
