"""A small neural probe, trained with early stopping; needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from estimators._arrays import Rows
from estimators.usable.linear import residual_covariance


@dataclass(frozen=True)
class MLPProbe:
    """One hidden layer of GELU units beside a linear path, Adam, early stopping.

    The inner rows stop the training: the parameters of the epoch with the least loss on them are
    kept, so the probe is never worse there than the constant it starts from.
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
        counts = np.bincount(labels[~inner], minlength=classes) + 0.5
        start = torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)
        target = torch.from_numpy(labels)

        def loss(scores: Tensor, wanted: Tensor) -> Tensor:
            return nn.functional.cross_entropy(scores, wanted)

        scores, least = self._fit(train, target, held, inner, start, loss, seed)
        return torch.log_softmax(scores.double(), dim=1).numpy(), least

    def gaussian(
        self, train: Rows, target: Rows, held: Rows, inner: NDArray[np.bool_], seed: int
    ) -> tuple[Rows, Rows, float]:
        """Held-out means, residual covariance, the inner rows' log det of it; see `LinearProbe`."""
        mean, spread = target.mean(axis=0), target.std(axis=0)
        wanted = torch.tensor((target - mean) / spread, dtype=torch.float32)
        start = torch.zeros(target.shape[1])
        both = np.concatenate([held, train[inner]])
        found, _ = self._fit(train, wanted, both, inner, start, nn.functional.mse_loss, seed)
        means = found.double().numpy() * spread + mean
        covariance = residual_covariance(target[inner] - means[len(held) :])
        return means[: len(held)], covariance, float(np.linalg.slogdet(covariance).logabsdet)

    def _fit(
        self,
        a: Rows,
        target: Tensor,
        b: Rows,
        inner: NDArray[np.bool_],
        start: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        seed: int,
    ) -> tuple[Tensor, float]:
        """Outputs for the rows b of the network that the inner rows liked best, and their loss."""
        generator = torch.Generator().manual_seed(seed)
        features, outer = torch.tensor(a, dtype=torch.float32), torch.tensor(~inner)
        network = _Network(a.shape[1], self.width, start, generator)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=self.rate, weight_decay=self.weight_decay
        )
        rows = torch.flatten(outer.nonzero())
        best, waited = float("inf"), 0
        kept = {k: v.clone() for k, v in network.state_dict().items()}
        for _ in range(self.epochs + 1):
            with torch.no_grad():
                seen = float(loss(network(features[~outer]), target[~outer]))
            if seen < best - 1e-4:
                best, waited = seen, 0
                kept = {k: v.clone() for k, v in network.state_dict().items()}
            else:
                waited += 1
                if waited > self.patience:
                    break
            shuffled = rows[torch.randperm(len(rows), generator=generator)]
            for part in shuffled.split(self.batch):
                optimiser.zero_grad(set_to_none=True)
                loss(network(features[part]), target[part]).backward()
                optimiser.step()
        network.load_state_dict(kept)
        with torch.no_grad():
            return network(torch.tensor(b, dtype=torch.float32)), best


class _Network(nn.Module):
    """`start + V x + U gelu(W x + c)`; V and U start at zero, so it starts as the constant."""

    def __init__(self, inputs: int, width: int, start: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, width)
        self.out = nn.Linear(width, len(start))
        self.straight = nn.Linear(inputs, len(start), bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.randn(width, inputs, generator=generator) / inputs**0.5)
            self.hidden.bias.zero_()
            self.out.weight.zero_()
            self.out.bias.copy_(start)
            self.straight.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(n, outputs) of (n, inputs)."""
        found: Tensor = self.out(nn.functional.gelu(self.hidden(x))) + self.straight(x)
        return found
