"""Methods that choose a plan before the model answers: GM-Skip and evenly spaced layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.protocol import Method
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import empty_plan
from vlm_bridge.rules import Evidence
from vlm_bridge.rules.controls import evenly
from vlm_bridge.rules.published.gm_skip import rounds


@dataclass(frozen=True)
class GMSkipMethod(Method):
    """Greedily remove the block with the least loss of accuracy while the objective improves.

    After k rounds the objective is `accuracy + trade_off k / L`; the search stops after `patience`
    rounds without improvement and takes the best number of rounds.

    Attributes:
        trade_off: loss of accuracy allowed for skipping all layers; at 0.1, 5 points for half.
        patience: rounds without improvement after which the search ends.
        rounds: largest number of blocks to remove.
    """

    trade_off: float = 0.1
    patience: int = 2
    rounds: int = 8
    name = "gm-skip"
    source = "arXiv:2508.18227, algorithm 1"
    requires = "labels"
    deviation = (
        "the metric is the accuracy of the first answer token, not CIDEr or accuracy of whole "
        "answers; trade-off, patience and number of rounds are ours; of equally accurate blocks "
        "the deepest goes, but early blocks are not protected; without the authors' code"
    )

    takes: ClassVar[dict[str, str]] = {
        "trade_off": "a number from 0 on",
        "patience": "an integer from 1 on",
        "rounds": "an integer from 1 on",
    }

    def __post_init__(self) -> None:
        if self.trade_off < 0 or self.patience < 1 or self.rounds < 1:
            raise BridgeError(
                "trade_off must not be negative, patience and rounds at least 1; got "
                f"{self.trade_off}, {self.patience} and {self.rounds}"
            )

    def choose(self, evidence: Evidence) -> SkipPlan:
        """Search on the labelled questions of `evidence`."""
        n, removed = evidence.n_layers, list[int]()
        best, best_at = -float("inf"), 0
        with evidence.open_to(self.name, self.requires):
            for number, (layer, accuracy) in enumerate(rounds(evidence, "block"), start=1):
                removed.append(layer)
                objective = accuracy + self.trade_off * number / n
                if objective > best:
                    best, best_at = objective, number
                if number - best_at >= self.patience or number >= self.rounds:
                    break
        return SkipPlan("block", n, layers=tuple(sorted(removed[:best_at])))


@dataclass(frozen=True)
class EvenMethod(Method):
    """Skip `k = round(L (1 - 1 / speed_up))` evenly spaced blocks, the same for every input.

    The first and the last of the L blocks stay. A null model: it reads nothing.

    Attributes:
        speed_up: of the decoder, above 1.
    """

    speed_up: float = 1.25
    name = "evenly-spaced"
    source = "control; after Unified Layer Skipping, arXiv:2404.06954 (method unified)"
    deviation = (
        "skips in the prefill too, where the authors skip in decoding alone; takes any speed-up "
        "and centres the gaps, where they take integers and multiples; no fine-tuning"
    )

    takes: ClassVar[dict[str, str]] = {"speed_up": "a number above 1"}

    def __post_init__(self) -> None:
        if not self.speed_up > 1:
            raise BridgeError(f"speed_up must be above 1, got {self.speed_up}")

    def choose(self, evidence: Evidence) -> SkipPlan:
        """The plan, from the depth alone; too high a speed-up is a `BridgeError`."""
        n = evidence.n_layers
        count = round(n * (1 - 1 / self.speed_up))
        if count > n - 2:
            raise BridgeError(
                f"a speed-up of {self.speed_up:g} leaves out {count} of {n} layers, and the first "
                f"and the last stay: at most {n / 2:g} is possible"
            )
        return SkipPlan("block", n, layers=evenly(n, count)) if count else empty_plan("block", n)
