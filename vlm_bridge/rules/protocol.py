"""What a rule is: a name, the mode it speaks about, and a score per layer."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from estimators import Profile
from vlm_bridge.plan import SkipPlan


class Rule(Protocol):
    """Ranks what to skip from a profile of one forward pass; reads no labels."""

    @property
    def name(self) -> str:
        """What `--rule` takes."""
        ...

    @property
    def mode(self) -> str:
        """`block` or `freeze`."""
        ...

    @property
    def source(self) -> str:
        """Where the rule comes from."""
        ...

    @property
    def condition(self) -> str:
        """The redundancy condition it amounts to."""
        ...

    def score(self, profile: Profile) -> np.ndarray:
        """(n_layers,) the lower, the safer to skip that layer."""
        ...


def nested_plans(rule: Rule, profile: Profile) -> list[SkipPlan]:
    """The rule's plans from the smallest to the largest: layers join in order of score."""
    n = profile.n_layers
    source = {"rule": rule.name, "profile_hash": profile.data_hash, "model": profile.model}
    order = np.argsort(rule.score(profile), kind="stable").tolist()
    return [
        SkipPlan(rule.mode, n, layers=tuple(sorted(order[:k])), source=source)
        for k in range(1, n + 1)
    ]
