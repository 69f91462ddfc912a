"""Which drafted tokens the full model keeps, and which token it puts behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError


class Rule(Protocol):
    """Chooses tokens from scores (n, vocabulary): logits as the generation settings alter them."""

    def propose(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n,) tokens, and the distribution (n, vocabulary) they were drawn from, if any."""

    def judge(
        self, scores: Tensor, drafted: Tensor, drawn_from: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """(n,) number of `drafted` (n, k) tokens to keep, and (n,) the token behind them.

        `scores` (n, k + 1, vocabulary) are of the full model, at every drafted token and behind.
        """


class Greedy:
    """The likeliest token; of equal scores that with the lowest id, as `generate` has it."""

    def propose(self, scores: Tensor) -> tuple[Tensor, None]:
        """(n,) likeliest tokens."""
        return scores.argmax(-1), None

    def judge(
        self, scores: Tensor, drafted: Tensor, _: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Keep drafted tokens up to the first that is not the full model's likeliest."""
        best = scores.argmax(-1)
        kept = (best[:, :-1] == drafted).long().cumprod(1).sum(1)
        return kept, best.gather(1, kept[:, None])[:, 0]


class Draws:
    """The random numbers of sampling, from one generator."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator

    def choose(self, probabilities: Tensor) -> Tensor:
        """(n,) one index for each row of `probabilities` (n, m)."""
        return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0]

    def happens(self, chance: Tensor) -> Tensor:
        """A bool of that chance, for each chance."""
        numbers = torch.rand(
            chance.shape, dtype=chance.dtype, device=chance.device, generator=self._generator
        )
        return numbers < chance


class Sampling:
    """Speculative sampling: every token has exactly the full model's distribution.

    A token x drawn from q is kept with probability min(1, p(x) / q(x)). In place of the first that
    is not kept a token is drawn from max(0, p - q), normalised; behind k kept tokens one from p.

    Source:
        Leviathan, Kalman and Matias 2023, arXiv 2211.17192, algorithm 1; Chen et al. 2023, arXiv
        2302.01318.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def propose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) tokens drawn from the softmax of `scores`, and that distribution."""
        probabilities = scores.double().softmax(-1)
        return self._draws.choose(probabilities), probabilities

    def judge(
        self, scores: Tensor, drafted: Tensor, drawn_from: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Keep or replace drafted tokens by the rule above."""
        p = scores.double().softmax(-1)
        q = torch.stack([each for each in drawn_from if each is not None], 1) if drawn_from else p
        k, rows = drafted.shape[1], torch.arange(len(p), device=p.device)
        if k == 0:
            return torch.zeros_like(rows), self._draws.choose(p[:, 0])
        chance = keep_chance(p[:, :k], q, drafted)
        kept = self._draws.happens(chance).long().cumprod(1).sum(1)
        rest = residual(p[rows, kept], q[rows, kept.clamp(max=k - 1)])
        behind = torch.where((kept == k)[:, None], p[:, k], rest)
        return kept, self._draws.choose(behind)


def keep_chance(p: Tensor, q: Tensor, tokens: Tensor) -> Tensor:
    """Chance min(1, p(x) / q(x)) of keeping each of `tokens` (...), drawn from q (..., vocabulary).

    Example:
        >>> p, q = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
        >>> keep_chance(p.expand(2, 2), q.expand(2, 2), torch.tensor([0, 1])).tolist()
        [0.5, 1.0]
    """
    at = tokens[..., None]
    return (p.gather(-1, at) / q.gather(-1, at)).clamp(max=1)[..., 0]


def residual(p: Tensor, q: Tensor) -> Tensor:
    """max(0, p - q) over its sum, in the last dimension; p where p = q, which rejects nothing.

    Example:
        >>> residual(torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])).tolist()
        [0.0, 1.0]
    """
    left = (p - q).clamp(min=0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total.clamp(min=torch.finfo(p.dtype).tiny), p)


def rule_of(do_sample: bool, generator: torch.Generator | None, device: torch.device) -> Rule:
    """The rule of a call of `generate_lossless`."""
    if not do_sample:
        return Greedy()
    if generator is not None and generator.device.type != device.type:
        raise BridgeError(
            f"generator is on {generator.device}, the model on {device}; make it as "
            f"torch.Generator('{device}')"
        )
    return Sampling(Draws(generator))
