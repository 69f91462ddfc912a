"""DeepInsert (arXiv 2504.19327): let the vision tokens in at a middle layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.plan.units import units
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class DeepInsert(RuleBase):
    """Entry depths by the loss with vision absent before: `-log p_entry(full model's own answer)`.

    The method trains with late entry and picks the depth by held-out loss; here the model is as
    it is and its own first answer token stands for the label.
    """

    name: str = "deepinsert"
    modes: tuple[str, ...] = ("late_entry",)
    source: str = "arXiv:2504.19327, section 3"
    condition: str = "informational at entry, functional (without labels)"
    requires: str = "candidate runs"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers - 1,) loss at every entry depth from 1 on, nats."""
        runs = evidence.candidates(units(mode, evidence.n_layers))
        return np.array([run.loss for run in runs])
