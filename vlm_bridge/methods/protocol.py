"""What a method is: something published that makes a model answer with less, end to end."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence


class Method(Protocol):
    """Chooses what to skip, and makes the model answer that way. Fields are its settings."""

    @property
    def name(self) -> str:
        """What `skipit method` takes."""
        ...

    @property
    def source(self) -> str:
        """Where the method comes from."""
        ...

    @property
    def requires(self) -> str:
        """What it looks at before it answers: one of `rules.evidence.REQUIREMENTS`."""
        ...

    @property
    def deviation(self) -> str:
        """Where it is not what was published."""
        ...

    def choose(self, evidence: Evidence) -> SkipPlan | None:
        """The plan it settles on; None where it decides while the model runs."""
        ...

    def applying(self, vlm: VLM, plan: SkipPlan | None) -> AbstractContextManager[Any]:
        """The model answers by the method for as long as the block lasts, cache included."""
        ...
