"""A small neural probe with early stopping; needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators._training import descend
from estimators.extras import require
from estimators.usable.linear import residual_covariance

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MLPProbe:
    """One hidden GELU layer plus a linear path, trained by AdamW with early stopping.

    `b + V x + U gelu(W x + c)`, U and V zero at first, so that training starts at the best
    constant. The parameters with the least loss on the inner rows are restored, so there the
    probe is never worse than that constant.
    """

    width: int = 64
    epochs: int = 60
    batch: int = 256
    rate: float = 3e-3
    weight_decay: float = 1e-2
    patience: int = 8
    name: str = "mlp"

    def log_probabilities(
        self,
        train: Rows,
        labels: NDArray[np.int64],
        held: Rows,
        inner: NDArray[np.bool_],
        classes: int,
        seed: int,
    ) -> tuple[Rows, float]:
        """Held-out log-probabilities (m, classes) and the loss on inner rows; see `LinearProbe`."""
        require("an MLP probe", "torch", "neural")
        import torch

        counts = np.bincount(labels[~inner], minlength=classes) + 0.5
        start = np.log(counts / counts.sum())
        loss = torch.nn.functional.cross_entropy
        scores, least = self._fit(train, torch.tensor(labels), held, inner, start, loss, seed)
        return torch.log_softmax(scores.double(), dim=1).numpy(), least

    def gaussian(
        self, train: Rows, target: Rows, held: Rows, inner: NDArray[np.bool_], seed: int
    ) -> tuple[Rows, Rows, float]:
        """Held-out means, residual covariance and its log determinant; see `LinearProbe`."""
        require("an MLP probe", "torch", "neural")
        import torch

        mean, spread = target.mean(axis=0), target.std(axis=0)
        wanted = torch.tensor((target - mean) / spread, dtype=torch.float32)
        start = np.zeros(target.shape[1])
        rows = np.concatenate([held, train[inner]])
        loss = torch.nn.functional.mse_loss
        outputs, _ = self._fit(train, wanted, rows, inner, start, loss, seed)
        means = outputs.double().numpy() * spread + mean
        covariance = residual_covariance(target[inner] - means[len(held) :])
        return means[: len(held)], covariance, float(np.linalg.slogdet(covariance).logabsdet)

    def _fit(
        self,
        a: Rows,
        target: Tensor,
        b: Rows,
        inner: NDArray[np.bool_],
        start: NDArray[np.float64],
        loss: Callable[[Tensor, Tensor], Tensor],
        seed: int,
    ) -> tuple[Tensor, float]:
        """Outputs on the rows b of the network with the least inner loss, and that loss."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        features = torch.tensor(a, dtype=torch.float32)
        inputs, outputs = a.shape[1], len(start)
        parameters = [
            torch.randn(inputs, self.width, generator=generator) / inputs**0.5,
            torch.zeros(self.width),
            torch.zeros(self.width, outputs),
            torch.tensor(start, dtype=torch.float32),
            torch.zeros(inputs, outputs),
        ]

        def network(x: Tensor) -> Tensor:
            into, shift, out, constant, straight = parameters
            hidden = torch.nn.functional.gelu(x @ into + shift)
            scores: Tensor = hidden @ out + x @ straight + constant
            return scores

        judges, rows = torch.tensor(np.flatnonzero(inner)), torch.tensor(np.flatnonzero(~inner))
        best, _ = descend(
            parameters,
            lambda part: loss(network(features[part]), target[part]),
            lambda: float(loss(network(features[judges]), target[judges])),
            rows,
            generator=generator,
            epochs=self.epochs,
            batch=self.batch,
            rate=self.rate,
            patience=self.patience,
            weight_decay=self.weight_decay,
        )
        with torch.no_grad():
            return network(torch.tensor(b, dtype=torch.float32)), best
