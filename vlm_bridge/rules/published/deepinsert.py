"""DeepInsert (arXiv 2504.19327): insert the vision tokens at a middle layer."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class DeepInsert(Rule):
    """Loss at each entry depth: `-log p_entry(full model's answer)`."""

    name = "deepinsert"
    modes = ("late_entry",)
    source = "arXiv:2504.19327, section 3"
    deviation = (
        "the model is unchanged, where the authors train with late entry; its own first answer "
        "token, not a label, gives the loss"
    )
    condition = "informational at entry, functional (without labels)"
    requires = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers - 1,) loss at every entry depth from 1 on, nats."""
        runs = evidence.candidates(evidence.units(mode))
        return np.array([run.loss for run in runs])
