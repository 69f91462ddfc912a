"""The plan under which a cache was filled; under another plan its keys would be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan

_NAME = "_skipit_plan"


@dataclass(frozen=True)
class Stamp:
    """A plan and its form, as a cache remembers them; copies of the cache carry them, too.

    Attributes:
        plan: hash of the plan; empty if it skips nothing.
        words: the plan in words.
        fast: the form in which it ran.
        any_token: the plan skips parts of layers for text, too.
    """

    plan: str = ""
    words: str = "a plan that skips nothing"
    fast: bool = True
    any_token: bool = False

    @classmethod
    def of(cls, plan: SkipPlan, *, fast: bool, modality: str = "vision") -> Self:
        """The stamp of `plan`; plans that skip nothing have the same."""
        if plan.is_empty:
            return cls()
        operations = plan.operations
        every = any(part.bypass or not part.attention or not part.mlp for part in operations)
        return cls(plan.hash(), plan.describe(modality), fast, every)

    def check(self, cache: Any) -> None:
        """Raise a `BridgeError` if `cache` holds tokens that did not run under this stamp."""
        if cache is None:
            return
        before = cache.__dict__.get(_NAME)
        if before == self or (before is None and not self.any_token):
            return
        if cache.get_seq_length() == 0:
            return
        if before is None:
            raise BridgeError(
                "this cache was filled by the full model, in which its tokens ran through the "
                f"layers that the plan of this block skips ({self.words}); fill the cache inside "
                "the block"
            )
        if before.plan != self.plan:
            raise BridgeError(
                f"this cache was filled under another plan ({before.words}); it cannot be used "
                f"under the plan of this block ({self.words})"
            )
        forms = {True: "fast", False: "plain"}
        raise BridgeError(
            f"this cache was filled by the {forms[before.fast]} form of its plan ({self.words}); "
            f"the {forms[self.fast]} form cannot go on with it"
        )

    def put(self, cache: Any) -> None:
        """Mark `cache`, if any; what a plan that skips nothing fills is a full model's cache."""
        if cache is None:
            return
        if self.plan:
            cache.__dict__[_NAME] = self
        else:
            cache.__dict__.pop(_NAME, None)
