"""Rules that read nothing: baselines for all other rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm_bridge.plan.modes import MODES, RULE_MODES, WHOLE_LAYER_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


@dataclass(frozen=True, kw_only=True)
class Random(Rule):
    """A seeded permutation."""

    seed: int = 0
    name = "random"
    modes = RULE_MODES
    source = "control"
    deviation = "none: a control"
    condition = "none"
    requires = "nothing"
    stacks = "any"
    origin = "control"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_units,) a permutation of 0, 1, ..."""
        n = len(evidence.units(mode))
        return np.random.default_rng(self.seed).permutation(n).astype(np.float64)


class DeepestFirst(Rule):
    """Depth alone: skip late layers first, exit late, enter early, prune late."""

    name = "deepest-first"
    modes = RULE_MODES
    source = "control; as the simple rule of Gromov et al. 2024, arXiv:2403.17887, section 4.4"
    deviation = "none: a control"
    condition = "none"
    requires = "nothing"
    stacks = "any"
    origin = "control"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_units,) minus the depth, or the depth where deeper units skip more."""
        depth = np.arange(len(evidence.units(mode)), dtype=np.float64)
        return depth if MODES[mode].deeper_skips_less is False else -depth


class Unified(Rule):
    """Unified Layer Skipping: the desired speed-up alone sets the number of evenly spaced layers.

    The first and the last layer stay; every input skips the same layers.
    """

    name = "unified"
    modes = WHOLE_LAYER_MODES
    source = "Liu et al. 2024, arXiv:2404.06954, section 3"
    deviation = (
        "skips in the prefill too, where the authors skip in decoding alone (method unified "
        "does); centred gaps and any number of layers, where they take multiples of an integer "
        "speed-up; no fine-tuning"
    )
    condition = "none"
    requires = "nothing"
    stacks = "any"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) minus the number of its plans that skip the layer."""
        scores = np.zeros(evidence.n_layers)
        for plan in self.plans(evidence, mode):
            scores[list(plan.layers)] -= 1.0
        return scores

    def plans(self, evidence: Evidence, mode: str) -> list[SkipPlan]:
        """K evenly spaced middle layers, for K = 1, 2, ..., L - 2."""
        n = evidence.n_layers
        stack = evidence.stack
        return [SkipPlan(mode, n, layers=evenly(n, k), stack=stack) for k in range(1, n - 1)]


def evenly(n_layers: int, count: int) -> tuple[int, ...]:
    """`count` of the layers 1 to L - 2, spaced as evenly as whole numbers allow.

    >>> evenly(10, 3)
    (2, 5, 7)
    """
    middle = n_layers - 2
    return tuple(1 + int((i + 0.5) * middle / count) for i in range(count))
