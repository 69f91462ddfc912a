"""`Evidence`: what a rule may look at, measured when asked for, kept, and paid for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from estimators import Profile
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import profile as run_profile
from vlm_bridge.plan.modes import KEEP
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.measure.candidates import CandidateRun, run_candidates

T = TypeVar("T")

#: What a rule may look at, each with all before it.
REQUIREMENTS = ("nothing", "forward pass", "candidate runs", "labels")
#: What evidence is open to outside `open_to`: all but labels.
_DEFAULT = "candidate runs"


class Evidence:
    """Measurements of one model on one set of questions, shared by every rule.

    Each is made once. What it cost is counted in forward-pass equivalents: 1 is a full pass
    over all questions, and a candidate that starts at layer l of L costs (L - l) / L.

    Args:
        vlm: the model; None where a profile is all there is.
        items: the questions. Rules see them without answers.
        profile: of the same model, where it is at hand; else it is made when asked for.
        batch_size: questions in a batch.

    Attributes:
        items: the questions, unlabelled.
        cost: forward-pass equivalents of everything measured so far, by name.
        spent: rule -> what its measurements cost, also those another rule had made before.

    Raises:
        BridgeError: neither model nor profile, or they differ in depth.

    Example:
        >>> evidence = Evidence(vlm, items)  # doctest: +SKIP
        >>> score_units(find_rule("shortgpt"), evidence)  # doctest: +SKIP
        array([0.74, 0.21, ...])
        >>> evidence.spent["shortgpt"]  # doctest: +SKIP
        {'profile': 1.0}
    """

    def __init__(
        self,
        vlm: VLM | None = None,
        items: Iterable[Item] = (),
        profile: Profile | None = None,
        *,
        batch_size: int = 16,
    ) -> None:
        if vlm is None and profile is None:
            raise BridgeError("evidence needs a model or a profile, got neither")
        if vlm is not None and profile is not None and profile.n_layers != vlm.layout.n_layers:
            raise BridgeError(
                f"the profile has {profile.n_layers} layers, the model {vlm.layout.n_layers}"
            )
        self._vlm = vlm
        self._labelled = tuple(items)
        self._profile = profile
        self.items = tuple(replace(item, answer=None) for item in self._labelled)
        self.batch_size = batch_size
        self.cost: dict[str, float] = {}
        self.spent: dict[str, dict[str, float]] = {}
        self._made: dict[str, Any] = {}
        self._rule = ""
        self._requires = _DEFAULT

    @property
    def vlm(self) -> VLM:
        """The model.

        Raises:
            BridgeError: there is only a profile.
        """
        if self._vlm is None or not self.items:
            raise BridgeError(
                f"{self._rule or 'this'} has to run the model, and the evidence is a profile "
                "without model and questions"
            )
        return self._vlm

    @property
    def model(self) -> str:
        """Name of the model."""
        if self._vlm is not None:
            return self._vlm.name
        assert self._profile is not None
        return self._profile.model

    @property
    def n_layers(self) -> int:
        """Depth of the decoder."""
        if self._vlm is not None:
            return self._vlm.layout.n_layers
        assert self._profile is not None
        return self._profile.n_layers

    @property
    def clusters(self) -> list[str]:
        """The independent unit of every question: its image."""
        return [item.cluster for item in self.items]

    @property
    def hashes(self) -> dict[str, str]:
        """For the record: the data the profile was made from, if there is one."""
        return {} if self._profile is None else {"profile_hash": self._profile.data_hash}

    def part(self, images: Iterable[str]) -> Evidence:
        """Evidence of the questions about some images, with an account of its own.

        Raises:
            BridgeError: there is no model, or no question about them.
        """
        chosen = set(images)
        items = [item for item in self._labelled if item.cluster in chosen]
        if not items:
            raise BridgeError(f"no question is about any of {len(chosen)} images")
        return Evidence(self.vlm, items, batch_size=self.batch_size)

    @contextlib.contextmanager
    def open_to(self, rule: str, requires: str) -> Iterator[None]:
        """Open as far as `requires`, on the account of `rule`, for as long as the block lasts.

        Raises:
            BridgeError: the rule reads something unknown.
        """
        if requires not in REQUIREMENTS:
            raise BridgeError(
                f"rule '{rule}' requires '{requires}', not one of {', '.join(REQUIREMENTS)}"
            )
        before = self._rule, self._requires
        self._rule, self._requires = rule, requires
        self.spent.setdefault(rule, {})
        try:
            yield
        finally:
            self._rule, self._requires = before

    def measured(
        self,
        name: str,
        make: Callable[[], T],
        *,
        forward_cost: float = 1.0,
        requires: str = "forward pass",
    ) -> T:
        """What `make` returns, made once under `name` and paid for.

        Args:
            name: of the measurement, its settings included.
            make: measures.
            forward_cost: what that costs, in forward-pass equivalents.
            requires: one of `REQUIREMENTS`; refused to a rule that says it reads less.
        """
        self._ask(requires, name)
        if name not in self._made:
            self._made[name] = make()
            self.cost[name] = forward_cost
        if self._rule:
            self.spent[self._rule][name] = self.cost[name]
        found: T = self._made[name]
        return found

    def _ask(self, requires: str, what: str) -> None:
        if REQUIREMENTS.index(requires) > REQUIREMENTS.index(self._requires):
            who = (
                f"rule '{self._rule}' requires" if self._rule else "outside a rule, evidence gives"
            )
            raise BridgeError(f"{who} {self._requires} only, and asked for {what} ({requires})")

    @property
    def profile(self) -> Profile:
        """The profile of one full pass."""

        def make() -> Profile:
            if self._profile is None:
                self._profile = run_profile(self.vlm, self.items, batch_size=self.batch_size)
            return self._profile

        return self.measured("profile", make)

    def labels(self) -> list[str]:
        """The true answer to every question; only for a rule that says it reads labels.

        Raises:
            BridgeError: another rule asks, or an answer is missing.
        """
        self._ask("labels", "the true answers")
        found = [item.answer for item in self._labelled if item.answer is not None]
        if len(found) < len(self._labelled) or not found:
            raise BridgeError(
                f"rule '{self._rule}' reads labels, and {len(self._labelled) - len(found)} of "
                f"{len(self._labelled)} questions have no answer"
            )
        return found

    def candidates(self, plans: Sequence[SkipPlan]) -> list[CandidateRun]:
        """What every plan does to the first answer token; each plan is run once ever."""
        names = [f"candidate {plan.mode} {plan.hash()[:12]}" for plan in plans]
        self._ask("candidate runs", f"{len(plans)} candidates")
        waiting = {n: p for n, p in zip(names, plans, strict=True) if n not in self._made}
        if waiting:
            self.measured("full model for candidates", lambda: None, requires="candidate runs")
            runs = run_candidates(
                self.vlm, self.items, list(waiting.values()), batch_size=self.batch_size
            )
            self._made |= dict(zip(waiting, runs, strict=True))
            self.cost |= {name: run.forward_cost for name, run in zip(waiting, runs, strict=True)}
        # Sharing the full model's run: it is paid once, by every rule that needs it.
        self.measured("full model for candidates", lambda: None, requires="candidate runs")
        return [self.measured(n, lambda: None, requires="candidate runs") for n in names]  # type: ignore[misc]

    def candidate_kl(self, mode: str, *, keep: float = KEEP) -> NDArray[np.float64]:
        """(n_units,) mean `KL(p_skip || p_full)` of the first answer token, in nats."""
        runs = self.candidates(units(mode, self.n_layers, keep=keep))
        return np.array([run.kl_skipped_full for run in runs])
