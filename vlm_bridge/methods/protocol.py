"""`Method`: the interface of published methods that skip computation end to end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar

from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence

if TYPE_CHECKING:
    from vlm_bridge.model.vlm import VLM


@dataclass(frozen=True)
class Method(ABC):
    """Chooses what to skip, and makes the model answer that way. Fields are its settings.

    Attributes:
        name: its name on the command line.
        source: the publication.
        requires: what it reads before it answers; one of `rules.account.REQUIREMENTS`.
        deviation: its difference from the publication.
        takes: what each setting may be, in words.
        runtime: `module:function`, a context manager of (vlm, method, plan) in which the model
            answers by the method; a name, so that listing methods imports no torch.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    requires: ClassVar[str] = "nothing"
    deviation: ClassVar[str]
    takes: ClassVar[dict[str, str]] = {}
    runtime: ClassVar[str] = "vlm_bridge.methods.run:skipping_plan"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)

    @abstractmethod
    def choose(self, evidence: Evidence) -> SkipPlan | None:
        """The plan; None where the method decides while the model runs."""

    def applying(self, vlm: VLM, plan: SkipPlan | None) -> AbstractContextManager[Any]:
        """Within the block the model answers by the method, with and without a cache."""
        context: AbstractContextManager[Any] = resolve_name(self.runtime)(vlm, self, plan)
        return context
