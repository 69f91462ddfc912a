"""Rules that look at nothing: what any rule has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase

_LAYERWISE = ("block", "freeze")


@dataclass(frozen=True, kw_only=True)
class Random(RuleBase):
    """A seeded permutation."""

    seed: int = 0
    name: str = "random"
    modes: tuple[str, ...] = RULE_MODES
    source: str = "null"
    condition: str = "none"
    requires: str = "nothing"
    origin: Origin = "control"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) a permutation of 0, 1, ..."""
        n = len(units(mode, evidence.n_layers))
        return np.random.default_rng(self.seed).permutation(n).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class DeepestFirst(RuleBase):
    """Depth alone: skip late layers first, exit late, enter early, prune late."""

    name: str = "deepest-first"
    modes: tuple[str, ...] = RULE_MODES
    source: str = "null; as the simple rule of Gromov et al. 2024, arXiv:2403.17887, section 4.4"
    condition: str = "none"
    requires: str = "nothing"
    origin: Origin = "control"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) the deeper, the lower; for late entry the shallower."""
        depth = np.arange(len(units(mode, evidence.n_layers)), dtype=np.float64)
        return depth if mode == "late_entry" else -depth


@dataclass(frozen=True, kw_only=True)
class Unified(RuleBase):
    """Unified Layer Skipping: the wanted speed-up alone says how many layers go, evenly spaced.

    The first and the last layer stay. The same layers go for every input.
    """

    name: str = "unified"
    modes: tuple[str, ...] = _LAYERWISE
    source: str = "Liu et al. 2024, arXiv:2404.06954, section 3"
    condition: str = "none"
    requires: str = "nothing"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) minus the number of its plans that skip the layer."""
        found = np.zeros(evidence.n_layers)
        for plan in self.plans(evidence, mode):
            found[list(plan.layers)] -= 1.0
        return found

    def plans(self, evidence: Evidence, mode: str) -> list[SkipPlan]:
        """K evenly spaced middle layers, for k = 1, 2, ..., L - 2."""
        n = evidence.n_layers
        return [SkipPlan(mode, n, layers=evenly(n, k)) for k in range(1, n - 1)]


def evenly(n_layers: int, count: int) -> tuple[int, ...]:
    """`count` of the layers 1 to L - 2, as evenly as whole numbers allow.

    >>> evenly(10, 3)
    (2, 5, 7)
    """
    middle = n_layers - 2
    return tuple(1 + int((i + 0.5) * middle / count) for i in range(count))
