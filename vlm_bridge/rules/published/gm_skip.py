"""GM-Skip (arXiv 2508.18227): take out, one by one, the block the task misses least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from estimators.clustered import image_mean
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.sweep import sweep_outcomes
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class GMSkip(RuleBase):
    """Greedy removal on the task metric itself; the only rule that reads labels.

    In every round each layer that is left is tried on top of what is out already, and the one
    with the highest accuracy of the first answer token goes; of equals the deepest, as the
    method searches from the back. That is `L (L + 1) / 2` candidates, so deep models are refused.

    Attributes:
        most_layers: depth beyond which the search is refused.
    """

    most_layers: int = 16
    name: str = "gm-skip"
    modes: tuple[str, ...] = ("block", "freeze")
    source: str = "arXiv:2508.18227, algorithm 1"
    condition: str = "functional (with labels)"
    requires: str = "labels"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) the round in which each layer goes."""
        n = evidence.n_layers
        if n > self.most_layers:
            raise BridgeError(
                f"gm-skip tries {n * (n + 1) // 2} candidates on {n} layers; it is for models of "
                f"at most {self.most_layers}: choose another rule"
            )
        found = np.empty(n)
        for turn, (layer, _) in enumerate(rounds(evidence, mode)):
            found[layer] = turn
        return found


def rounds(evidence: Evidence, mode: str) -> Iterator[tuple[int, float]]:
    """(layer that goes, accuracy once it is gone) of every round, measured as they are asked for.

    Raises:
        BridgeError: an answer is missing.
    """
    n = evidence.n_layers
    items = [
        replace(item, answer=answer)
        for item, answer in zip(evidence.items, evidence.labels(), strict=True)
    ]
    out: list[int] = []
    while len(out) < n:
        left = [layer for layer in range(n) if layer not in out]
        plans = [SkipPlan(mode, n, layers=tuple(sorted([*out, one]))) for one in left]

        def measure(plans: list[SkipPlan] = plans) -> list[float]:
            found = sweep_outcomes(evidence.vlm, items, plans, batch_size=evidence.batch_size)
            right = [np.array(one.correct_skipped, dtype=np.float64) for one in found]
            return [float(image_mean(one, evidence.clusters)) for one in right]

        name = f"accuracy, {mode} {sorted(out)} and one more"
        kept = evidence.measured(name, measure, forward_cost=float(len(plans)), requires="labels")
        best = max(range(len(left)), key=lambda at: (kept[at], left[at]))
        out.append(left[best])
        yield left[best], kept[best]
