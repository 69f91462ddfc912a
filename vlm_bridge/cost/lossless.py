"""Whether lossless generation pays: tokens and work of a round, from a few measured numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from estimators.record import Record
from vlm_bridge.errors import BridgeError, shown


def expected_tokens(acceptance: float, draft_tokens: int) -> float:
    """Mean tokens of a round: `1 + a + ... + a^k = (1 - a^(k+1)) / (1 - a)`, k + 1 where a = 1.

    Args:
        acceptance: a, the probability that a judged token is accepted, independently of the others.
        draft_tokens: k, drafted tokens of a round.

    Raises:
        BridgeError: a outside [0, 1], or k below 0.

    Source:
        Leviathan, Kalman and Matias 2023, arXiv 2211.17192, equation 1.

    Example:
        >>> expected_tokens(0.5, 2), expected_tokens(1.0, 4)
        (1.75, 5.0)
    """
    _check("acceptance", acceptance, 0.0, 1.0)
    _check("draft_tokens", draft_tokens, 0, math.inf)
    return float(sum(acceptance**i for i in range(draft_tokens + 1)))


@dataclass(frozen=True)
class RoundCost(Record):
    """What a round of lossless generation is expected to bring and to cost.

    Attributes:
        draft_tokens: k.
        tokens: expected tokens of a round.
        work: its time, in decoding passes of the full model.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("work_per_token",)

    draft_tokens: int
    tokens: float
    work: float

    @property
    def work_per_token(self) -> float:
        """Expected time of a token, in decoding passes of the full model; below 1 it pays."""
        return self.work / self.tokens


@dataclass(frozen=True)
class LosslessPrediction(Record):
    """Whether lossless generation pays, and with how many drafted tokens.

    Attributes:
        acceptance: probability that a judged token is accepted.
        draft_ratio: time of a draft pass over that of a decoding pass of the full model.
        verify_ratios: time of a pass of the full model over k + 1 tokens, over that of one token,
            for k = 1, 2, ...
        rounds: the expected cost of a round for each k.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("best", "pays", "speed_up")

    acceptance: float
    draft_ratio: float
    verify_ratios: tuple[float, ...]
    rounds: tuple[RoundCost, ...]

    @property
    def best(self) -> RoundCost:
        """The k whose tokens cost least; the smallest of equal ones."""
        return min(self.rounds, key=lambda round_: round_.work_per_token)

    @property
    def pays(self) -> bool:
        """Whether a token is expected to cost less than a decoding pass of the full model."""
        return self.best.work_per_token < 1

    @property
    def speed_up(self) -> float:
        """Expected tokens in the time in which the full model decodes one, at the best k."""
        return 1 / self.best.work_per_token


def predict_lossless(
    acceptance: float, draft_ratio: float, verify_ratios: Sequence[float] = (1.0,) * 8
) -> LosslessPrediction:
    """Predict the cost of `generate_lossless` for k = 1, 2, ... drafted tokens.

    A round of k drafted tokens costs `k c + v_k` decoding passes of the full model, c being
    `draft_ratio` and v_k the k-th of `verify_ratios`, and gives `(1 - a^(k+1)) / (1 - a)` tokens.

    Args:
        acceptance: a; `vlm_bridge.cost.acceptance_rate` measures it.
        draft_ratio: c; `vlm_bridge.cost.pass_times` measures it, and the next. A plan that skips
            modality tokens alone has c = 1, whatever it saves in the prefill.
        verify_ratios: v_1, v_2, ...: 1 where a pass over several tokens takes as long as over one,
            as on a GPU that waits for its memory; on a CPU it grows with k.

    Raises:
        BridgeError: a outside [0, 1], ratios that are no positive numbers, or none.

    Source:
        Leviathan, Kalman and Matias 2023, arXiv 2211.17192, theorem 3.8, which has v_k = 1.

    Example:
        >>> predict_lossless(0.8, 0.5).best.draft_tokens
        2
        >>> round(predict_lossless(0.8, 0.5).speed_up, 2), predict_lossless(0.5, 0.9).pays
        (1.22, False)
    """
    _check("draft_ratio", draft_ratio, 0.0)
    if not verify_ratios:
        raise BridgeError("verify_ratios holds a ratio for each number of drafted tokens, got none")
    for ratio in verify_ratios:
        _check("a verify_ratio", ratio, 0.0)
    rounds = tuple(
        RoundCost(k, expected_tokens(acceptance, k), k * draft_ratio + verify)
        for k, verify in enumerate(verify_ratios, start=1)
    )
    return LosslessPrediction(acceptance, draft_ratio, tuple(verify_ratios), rounds)


def _check(name: str, value: object, low: float, high: float | None = None) -> None:
    """Refuse what is not in [low, high], or not above `low` where there is no `high`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if high is None and low < value < float("inf"):
            return
        if high is not None and low <= value <= high:
            return
    words = f"a number above {low:g}" if high is None else f"in [{low:g}, {high:g}]"
    raise BridgeError(f"{name} is {words}, got {shown(value)}")
