"""Attend, Transform, or Silence (arXiv 2606.31903): updates of vision that the answer reads."""

from __future__ import annotations

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class AttendTransform(Rule):
    """`sum_v |u_l(v)| sum_{j > l} a_j(v) / |h_j(v)|`: how much of an update of vision text reads.

    u_l is the update of vision token v by an operator of layer l, h_j the state of v before a later
    layer j, a_j the attention of text to v there.

    vision_attention    update by the attention of layer l
    vision_mlp          update by its MLP
    freeze              by both together

    A large update that no later text attends to is silent, and the last layer is always.
    """

    name = "attend-transform"
    modes = ("vision_attention", "vision_mlp", "freeze")
    source = "arXiv:2606.31903: operators whose updates of vision the answer does not observe"
    deviation = (
        "a formula of ours for what is observed, made from the abstract: it weighs lengths by "
        "attention and not what values carry of an update; all text after the first vision token "
        "observes, since words pass on what they read; without the authors' code"
    )
    condition = "cross-modal"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) observed update, at least 0; 0 in the last layer."""
        observed = evidence.observed_updates()
        of_mode = {"vision_attention": observed.attention, "vision_mlp": observed.mlp}
        return of_mode.get(mode, observed.both).copy()
