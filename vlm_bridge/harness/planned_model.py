"""What a harness evaluates: a model with a plan, and the name that no other such pair has."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vlm_bridge.errors import BridgeError, among, got
from vlm_bridge.model.given import check_vlm, given_plan
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.context import skipping
from vlm_bridge.skip.support import check_support

#: The options of `vlm_bridge.load` that a harness may pass on.
LOADING = ("dtype", "device", "attention", "trust_remote_code")


@dataclass(frozen=True)
class PlannedModel:
    """A model, and the plan under which it answers; without a plan it is the full model."""

    vlm: VLM
    plan: SkipPlan | None = None

    @classmethod
    def of(cls, pretrained: Any, plan: Any = None, **loading: Any) -> PlannedModel:
        """The model and plan that the arguments of a harness name.

        Args:
            pretrained: a `VLM`, or what `vlm_bridge.load` takes.
            plan: a `SkipPlan`, words, the path of its file, or None for the full model.
            loading: options of `vlm_bridge.load`, among `LOADING`; not with a `VLM`.

        Raises:
            BridgeError: no such model or option, options beside a `VLM`, a plan of another depth,
                a plan that the model does not support, or an adaptive plan, which judges whole
                answers and would ignore the harness's own rules for where an answer stops.
        """
        loading = {name: value for name, value in loading.items() if value is not None}
        check_options(loading, LOADING)
        if isinstance(pretrained, str | os.PathLike):
            vlm = load(os.fspath(pretrained), **loading)
        else:
            vlm = pretrained
            check_vlm(vlm)
            if loading:
                raise BridgeError(
                    f"the model is in memory, and {', '.join(loading)} would be ignored; load it "
                    "with these options, or give its name"
                )
        if plan is None:
            return cls(vlm)
        chosen = given_plan(vlm, plan)
        check_support(vlm, chosen)
        return cls(vlm, chosen)

    @property
    def plan_hash(self) -> str:
        """`SkipPlan.hash`, or `full` without a plan."""
        return "full" if self.plan is None else self.plan.hash()

    @property
    def name(self) -> str:
        """Model and plan as a harness lists them: `reference@full`, `reference@3f0c9d2ab514`."""
        return f"{self.vlm.name}@{self.plan_hash[:12]}"

    @cached_property
    def key(self) -> str:
        """SHA-256 of all that answers depend on: the fingerprint of the model, and the plan."""
        return hashlib.sha256(f"{self.vlm.fingerprint} {self.plan_hash}".encode()).hexdigest()

    def about(self) -> dict[str, str]:
        """What a record of results says of model and plan."""
        plan = "skip nothing" if self.plan is None else self.plan.describe(self.vlm.layout.modality)
        return {
            "model": f"skipit:{self.name}",
            "plan": plan,
            "plan_hash": self.plan_hash,
            "model_fingerprint": self.vlm.fingerprint,
        }

    def running(self) -> AbstractContextManager[Any]:
        """A block in which the model answers under the plan."""
        return contextlib.nullcontext() if self.plan is None else skipping(self.vlm, self.plan)


def check_options(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise a `BridgeError` for an option that is not among those known.

    Example:
        >>> check_options({"dtyp": "float32"}, LOADING)
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: there is no option 'dtyp'; did you mean dtype? There are \
dtype, device, attention, trust_remote_code
    """
    for name in given:
        if name not in known:
            raise BridgeError(f"there is no option {got(name)}; {among(name, known)}")
