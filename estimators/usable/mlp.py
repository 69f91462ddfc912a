"""A small neural probe, trained with early stopping; needs torch where it is used."""

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
    """One hidden layer of GELU units beside a linear path, AdamW, early stopping.

    `b + V x + U gelu(W x + c)`, U and V zero at the start, so that it starts as the best
    constant. The inner rows stop the training: the parameters of the epoch with the least loss
    on them are kept, so the probe is never worse there than that constant.
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
        """(m, classes) log-probabilities, and the loss on inner rows; see `LinearProbe`."""
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
        """Held-out means, residual covariance, the inner rows' log det of it; see `LinearProbe`."""
        require("an MLP probe", "torch", "neural")
        import torch

        mean, spread = target.mean(axis=0), target.std(axis=0)
        wanted = torch.tensor((target - mean) / spread, dtype=torch.float32)
        start = np.zeros(target.shape[1])
        both = np.concatenate([held, train[inner]])
        loss = torch.nn.functional.mse_loss
        found, _ = self._fit(train, wanted, both, inner, start, loss, seed)
        means = found.double().numpy() * spread + mean
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
        """Outputs for the rows b of the network that the inner rows liked best, and their loss."""
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
            found: Tensor = hidden @ out + x @ straight + constant
            return found

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
