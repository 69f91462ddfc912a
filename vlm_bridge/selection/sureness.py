"""Which answers a plan changes, and how sure it was of each: from these thresholds are chosen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.clustered import cluster_codes
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.shared_run import SharedRun, first_layer
from vlm_bridge.evaluate.signals import signals_of
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import OWN_SIGNALS, AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support


@dataclass(frozen=True)
class Sureness:
    """Answers at one gate beside the full model's.

    Attributes:
        changed: (n,) 1.0 where the answer differs, else 0.0.
        signals: (n,) of each answer; larger is surer.
        clusters: the image of each answer.
    """

    changed: NDArray[np.float64]
    signals: NDArray[np.float64]
    clusters: list[str]

    def stands(self, threshold: float) -> NDArray[np.bool_]:
        """(n,) bool: which answers are surer than the threshold."""
        return np.asarray(self.signals > threshold)

    def thresholds(self) -> list[float]:
        """Those that no other beats in both fallback and changed answers.

        They are -inf, and one above the signal of each changed answer: half-way to the next larger
        signal, as far as there is one, so that rounding in another batch does not decide.

        >>> sure = Sureness(np.array([0.0, 1.0, 0.0]), np.array([0.1, 0.4, 2.0]), ["a", "b", "c"])
        >>> sure.thresholds()
        [-inf, 1.2]
        """
        signals = np.unique(self.signals)
        above = np.append((signals[:-1] + signals[1:]) / 2, signals[-1:])
        places = np.searchsorted(signals, np.unique(self.signals[self.changed > 0]))
        return [-math.inf, *above[places].tolist()]


@dataclass(frozen=True)
class PlanAnswers:
    """Answers under one plan.

    Attributes:
        texts: of each question.
        first: the first token of each.
        signals: (n,) of each answer, by name of the signal.
    """

    texts: tuple[str, ...]
    first: tuple[int, ...]
    signals: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class KnownAnswers:
    """Answers under several plans to the same questions: what any chain of them does follows.

    Attributes:
        full: the full model's answers.
        clusters: the image of each question.
        by_plan: plan -> its answers.
        over: "answer" or "first": which tokens the signals are of.
    """

    full: tuple[str, ...]
    clusters: tuple[str, ...]
    by_plan: Mapping[SkipPlan, PlanAnswers]
    over: str = "answer"
    _sure: dict[tuple[SkipPlan, str, SkipPlan | None], Sureness] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(n,) weight of each question: every image counts once, and all together 1."""
        codes = cluster_codes(self.clusters)
        sizes = np.bincount(codes)
        return np.asarray(1.0 / sizes[codes] / len(sizes))

    def sureness(self, gate: Gate) -> Sureness:
        """Changed answers and signals at a gate; no threshold is used.

        Raises:
            BridgeError: a plan that was not asked, a gate of other tokens, a signal that is NaN.
        """
        asked = (gate.plan, gate.signal, gate.second)
        if gate.over != self.over:
            raise BridgeError(f"signals are known over {self.over}, and a gate is over {gate.over}")
        if asked not in self._sure:
            self._sure[asked] = self._compared(gate)
        return self._sure[asked]

    def _compared(self, gate: Gate) -> Sureness:
        made = self._of(gate.plan)
        if gate.second is None:
            signals = made.signals[gate.signal]
        else:
            second = self._of(gate.second)
            name = "texts" if self.over == "answer" else "first"
            pairs = zip(getattr(made, name), getattr(second, name), strict=True)
            signals = np.array([float(a == b) for a, b in pairs])
        gate.passes(signals.tolist())  # refuses NaN
        changed = [float(a != b) for a, b in zip(self.full, made.texts, strict=True)]
        return Sureness(np.array(changed), signals, list(self.clusters))

    def replay(self, plan: AdaptivePlan) -> tuple[list[float], list[int]]:
        """Of each answer under an adaptive plan: whether it is changed, and its gate."""
        changed, at = np.zeros(len(self.full)), np.full(len(self.full), len(plan.gates))
        for number, gate in reversed(list(enumerate(plan.gates))):
            sure = self.sureness(gate)
            stands = sure.stands(gate.threshold)
            changed, at = np.where(stands, sure.changed, changed), np.where(stands, number, at)
        return changed.tolist(), at.tolist()

    def _of(self, plan: SkipPlan) -> PlanAnswers:
        if plan not in self.by_plan:
            raise BridgeError(f"no answers are known under: {plan.describe()}")
        return self.by_plan[plan]


def ask_plans(
    full: FullAnswers,
    vlm: VLM,
    plans: Sequence[SkipPlan],
    *,
    over: str = "answer",
    batch_size: int,
    checkpoint: Path | None = None,
) -> KnownAnswers:
    """Ask all questions once under each plan; layers that plans leave alone run once.

    Finished batches are kept in a file of the folder `checkpoint`, one for each list of plans.
    """
    for plan in plans:
        check_support(vlm, plan)
    # Those that leave the most layers alone come first: the others start with their states.
    plans = sorted(dict.fromkeys(plans), key=lambda plan: -(first_layer(vlm, plan) or 0))

    def work(batch: Batch) -> list[dict[str, Any]]:
        run = SharedRun(vlm, batch, plans, max_new_tokens=full.max_new_tokens)
        results = []
        for plan in plans:
            made = run.ask(plan)
            signals = {name: signals_of(vlm, made, name, over) for name in OWN_SIGNALS}
            first = made.ids[:, 0].tolist()
            results.append({"texts": list(made.texts(vlm)), "first": first, **signals})
        return results

    kinds = {"texts": str, "first": int} | dict.fromkeys(OWN_SIGNALS, float)

    def is_result(result: Any, n: int) -> bool:
        return is_list_of(result, dict, len(plans)) and all(
            set(each) == set(kinds) and all(is_list_of(each[k], kinds[k], n) for k in kinds)
            for each in result
        )

    names = [plan.hash() for plan in plans]
    settings: Any = {"batch_size": batch_size, "max_new_tokens": full.max_new_tokens}
    short = hashlib.sha256(" ".join([*names, over]).encode()).hexdigest()[:12]
    results = run_batches(
        vlm,
        full.items,
        work,
        is_result,
        batch_size=batch_size,
        title=f"answers under {len(plans)} plans",
        checkpoint=checkpoint and checkpoint / f"known-{short}.jsonl",
        key=run_key("known answers", vlm, full.items, plans=names, over=over, **settings),
    )

    def column(place: int, name: str) -> list[Any]:
        # `FullAnswers.items` are in the order of the batches.
        return [value for _, result in results for value in result[place][name]]

    return KnownAnswers(
        full.texts,
        tuple(item.cluster for item in full.items),
        {
            plan: PlanAnswers(
                tuple(column(place, "texts")),
                tuple(column(place, "first")),
                {name: np.array(column(place, name)) for name in OWN_SIGNALS},
            )
            for place, plan in enumerate(plans)
        },
        over,
    )


def sureness_of(
    full: FullAnswers, vlm: VLM, gate: Gate, *, batch_size: int, checkpoint: Path | None = None
) -> Sureness:
    """Ask all questions under the plans of a gate, and note its signal; no threshold is used."""
    known = ask_plans(
        *(full, vlm, gate.plans), over=gate.over, batch_size=batch_size, checkpoint=checkpoint
    )
    return known.sureness(gate)
