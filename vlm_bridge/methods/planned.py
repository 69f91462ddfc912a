"""Methods that settle on a plan before the model answers: GM-Skip and Unified Layer Skipping."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import empty_plan
from vlm_bridge.rules import Evidence
from vlm_bridge.rules.controls import evenly
from vlm_bridge.rules.published.gm_skip import rounds
from vlm_bridge.skip import skipping


@dataclass(frozen=True)
class Planned:
    """A method whose plan is carried out by the skip runtime."""

    def applying(self, vlm: VLM, plan: SkipPlan | None) -> AbstractContextManager[Any]:
        """`skipping(vlm, plan)`."""
        assert plan is not None
        return skipping(vlm, plan)


@dataclass(frozen=True)
class GMSkipMethod(Planned):
    """Blocks go one by one, each time the one the task metric misses least, while that pays.

    After k rounds the objective is `accuracy + trade_off k / L`; the search stops after `patience`
    rounds without a better one, and the best number of rounds is taken.

    Attributes:
        trade_off: what leaving out all layers would be worth, in accuracy: at 0.1 half of the
            layers may cost 5 points.
        patience: rounds without improvement after which the search ends.
        rounds: most blocks that may go.
    """

    trade_off: float = 0.1
    patience: int = 2
    rounds: int = 8
    name: str = "gm-skip"
    source: str = "arXiv:2508.18227, algorithm 1"
    requires: str = "labels"
    deviation: str = "the metric is accuracy of the first answer token, the trade-off is ours"

    def __post_init__(self) -> None:
        if self.trade_off < 0 or self.patience < 1 or self.rounds < 1:
            raise BridgeError(
                "trade_off must not be negative, patience and rounds at least 1; got "
                f"{self.trade_off}, {self.patience} and {self.rounds}"
            )

    def choose(self, evidence: Evidence) -> SkipPlan:
        """Search on the labelled questions of `evidence`."""
        n, out = evidence.n_layers, list[int]()
        best, best_at = -float("inf"), 0
        with evidence.open_to(self.name, self.requires):
            for turn, (layer, accuracy) in enumerate(rounds(evidence, "block"), start=1):
                out.append(layer)
                worth = accuracy + self.trade_off * turn / n
                if worth > best:
                    best, best_at = worth, turn
                if turn - best_at >= self.patience or turn >= self.rounds:
                    break
        return SkipPlan("block", n, layers=tuple(sorted(out[:best_at])))


@dataclass(frozen=True)
class UnifiedMethod(Planned):
    """The wanted speed-up says how many blocks go, evenly spaced; the first and the last stay.

    `k = round(L (1 - 1 / speed_up))` blocks of L, the same for every input.

    Attributes:
        speed_up: of the decoder, above 1.
    """

    speed_up: float = 1.25
    name: str = "unified"
    source: str = "Liu et al. 2024, arXiv:2404.06954, section 3"
    requires: str = "nothing"
    deviation: str = "none: its fine-tuning afterwards is optional there and left out here"

    def __post_init__(self) -> None:
        if not self.speed_up > 1:
            raise BridgeError(f"speed_up must be above 1, got {self.speed_up}")

    def choose(self, evidence: Evidence) -> SkipPlan:
        """Looks at nothing but the depth.

        Raises:
            BridgeError: more blocks would have to go than lie between the first and the last.
        """
        n = evidence.n_layers
        count = round(n * (1 - 1 / self.speed_up))
        if count > n - 2:
            raise BridgeError(
                f"a speed-up of {self.speed_up:g} leaves out {count} of {n} layers, and the first "
                f"and the last stay: at most {n / 2:g} is possible"
            )
        return SkipPlan("block", n, layers=evenly(n, count)) if count else empty_plan("block", n)
