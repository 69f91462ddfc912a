"""After Skip-Vision: vision tokens that the MLPs hardly change bypass the later ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.protocol import Method
from vlm_bridge.rules import Evidence


@dataclass(frozen=True)
class SkipVisionMethod(Method):
    """From layer `after` on, MLPs run on text and on the vision tokens that they change most.

    The change of an MLP input x is `|MLP(x)| / |x|` in layer `after - 1`. Other vision tokens still
    attend and are attended to.

    Attributes:
        after: first layer in which tokens bypass the MLP, at least 1.
        keep: share of vision tokens with the largest change, in (0, 1), whose MLPs run.
    """

    after: int = 2
    keep: float = 0.5
    name = "skip-vision"
    source = "arXiv:2503.21817, skip of the feed-forward network"
    deviation = (
        "tokens are ranked by feature change from one layer on, where the authors fix by place, "
        "before layer 0, which tokens bypass every MLP; no learned summary tokens, no merged "
        "tokens and no fine-tuning; keys and values of skipped tokens stay in the cache, which the "
        "paper cuts before decoding (the released files do not)"
    )
    takes: ClassVar[dict[str, str]] = {
        "after": "an integer from 1 on",
        "keep": "a number above 0 and below 1",
    }
    runtime = "vlm_bridge.methods.passing:passing_by"

    def __post_init__(self) -> None:
        if self.after < 1 or not 0 < self.keep < 1:
            raise BridgeError(
                f"after must be at least 1 and keep lie in (0, 1), got {self.after} and {self.keep}"
            )

    def choose(self, evidence: Evidence) -> None:
        """None: it decides for every input while the model runs; it needs modality tokens."""
        evidence.check_mode("freeze")
        if self.after >= (n := evidence.n_layers):
            raise BridgeError(f"after={self.after} leaves no layer of {n} to bypass")
