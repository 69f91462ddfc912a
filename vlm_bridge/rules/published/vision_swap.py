"""Swap of vision states between images: depths from which the answer reads no image."""

from __future__ import annotations

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class VisionSwap(Rule):
    """`mean KL(p_swapped || p_full)` with the vision states before layer b of another image.

    The question stays, and its vision tokens have the states that they have about another image of
    the same size. If the answer does not change, no layer from b on reads what tells images apart.
    Unlike a run of the exit itself, attention to vision tokens keeps its mass.
    """

    name = "vision-swap"
    modes = ("early_exit",)
    source = "Nooralahzadeh et al. 2026, arXiv:2604.09364: activation patching of image tokens"
    deviation = (
        "ranks exits by divergence from the model's own answer, where the authors patch towards "
        "a given answer and skip nothing; the next image of the data is the source; first answer "
        "token; images of other sizes are refused"
    )
    condition = "informational at exit, functional (without labels)"
    requires = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers - 1,) divergence at every exit depth from 1 on, nats."""
        return evidence.vision_swap_kl()
