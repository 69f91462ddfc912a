"""GM-Skip (arXiv 2508.18227): remove, one by one, the block with the least loss of accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import WHOLE_LAYER_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


@dataclass(frozen=True, kw_only=True)
class GMSkip(Rule):
    """Greedy removal by the task metric itself; the only rule that reads labels.

    Every round removes the layer without which the first answer token is most accurate; the
    deepest of equals, as the method searches from the back. That takes `L (L + 1) / 2` candidates,
    so models deeper than `most_layers` are refused.
    """

    most_layers: int = 16
    name = "gm-skip"
    modes = WHOLE_LAYER_MODES
    source = "arXiv:2508.18227, algorithm 1"
    deviation = (
        "accuracy of the first answer token, not CIDEr or accuracy of whole answers; ends at no "
        "trade-off, which the method gm-skip has; the deepest of equals goes, but early blocks "
        "are not protected; without the authors' code"
    )
    condition = "functional (with labels)"
    requires = "labels"
    stacks = "any"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) the round in which each layer is removed."""
        n = evidence.n_layers
        if n > self.most_layers:
            raise BridgeError(
                f"gm-skip tries {n * (n + 1) // 2} candidates on {n} layers; it is for models of "
                f"at most {self.most_layers}: choose another rule"
            )
        scores = np.empty(n)
        for number, (layer, _) in enumerate(rounds(evidence, mode)):
            scores[layer] = number
        return scores


def rounds(evidence: Evidence, mode: str) -> Iterator[tuple[int, float]]:
    """(layer removed, accuracy without it) of every round, measured lazily."""
    n, removed = evidence.n_layers, list[int]()
    while len(removed) < n:
        left = [layer for layer in range(n) if layer not in removed]
        without = [tuple(sorted([*removed, layer])) for layer in left]
        plans = [SkipPlan(mode, n, layers=layers, stack=evidence.stack) for layers in without]
        name = f"accuracy, {mode} {sorted(removed)} and one more"
        accuracy, layer = max(zip(evidence.accuracies(name, plans), left, strict=True))
        removed.append(layer)
        yield layer, accuracy
