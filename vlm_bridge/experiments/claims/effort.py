"""What a run of the protocol costs, before it starts: answers, passes and hours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.evaluate.answers import answer_batch
from vlm_bridge.experiments.claims import protocol
from vlm_bridge.experiments.claims.promise import TRIED
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.experiments.rule_benchmark import Case
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import LAYERWISE, SLOPE_GROUPS
from vlm_bridge.plan.units import units
from vlm_bridge.rules.measure.sensitivity import sensitivity_passes
from vlm_bridge.rules.skip_it_slopes import SkipItRuns, SkipItSlopes
from vlm_bridge.selection.path import RUNGS
from vlm_bridge.skip import supported_modes


@dataclass(frozen=True)
class Effort(Record):
    """Work of a run.

    Attributes:
        answers: part of the run -> whole answers, at most; a skipped answer counts as a full one.
        passes: forward passes over one question that rules and stability need.
        seconds_per_answer: measured on the first tuning questions; NaN if it was not.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("total", "hours")

    answers: dict[str, int]
    passes: float
    seconds_per_answer: float

    @property
    def total(self) -> float:
        """Answers and passes together: forward passes over a prompt."""
        return sum(self.answers.values()) + self.passes

    @property
    def hours(self) -> float:
        """About how long it takes here, if a pass takes as long as an answer."""
        return self.total * self.seconds_per_answer / 3600

    def sentence(self) -> str:
        """Numbers and time in one line."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.answers.items())
        return (
            f"at most {self.total:,.0f} forward passes over a prompt (answers: {parts}; scores "
            f"{self.passes:,.0f}), about {self.hours:.1f} h at {self.seconds_per_answer:.3f} s each"
        )


def count_effort(
    n_layers: int,
    modes: tuple[str, ...],
    settings: ClaimsSettings,
    *,
    seconds_per_answer: float,
    n_nulls: int = 2,
) -> Effort:
    """Count the work of a run on a model of `n_layers` layers that supports `modes`.

    Example:
        >>> effort = count_effort(30, ("block", "freeze"), ClaimsSettings(), seconds_per_answer=0.1)
        >>> effort.answers["single units"]
        12000
    """
    sizes, own = settings, {mode: len(units(mode, n_layers)) for mode in modes}
    fatal = len(protocol.fatal_layers(n_layers))
    counted = {m: n - fatal if m in LAYERWISE else n for m, n in own.items()}
    ours = protocol.tested_mode("freeze" in modes)
    thirds = 2 if "freeze" in modes else 0
    nulls = n_nulls if sizes.null_images else 0
    aligned = [mode for mode in protocol.ALIGNED if mode in modes]
    plans = sizes.draws + 2
    answers = {
        "full model": sizes.tuning * 2 + sizes.certification * 2 + sizes.test + sizes.ranked,
        "single units": sum(own.values()) * sizes.ranked,
        "search": counted[ours] * sizes.tuning + len(RUNGS) * sizes.certification,
        "plans and controls": (plans + 2 + thirds * plans) * sizes.test
        + (1 + thirds) * sizes.certification,
        "nulls": nulls
        * sizes.null_images
        * (1 + sum(counted[mode] for mode in aligned) + plans + thirds),
    }
    if sizes.beside:
        answers["beside the verdicts"] = 4 * sizes.test + TRIED * sizes.certification
    read = min(sizes.profiling, SkipItSlopes().images)
    slopes = sum(
        sum(sensitivity_passes(group).values())
        for group in SLOPE_GROUPS.values()
        if set(group) & set(modes)
    )
    each = slopes * read + (1 + n_layers / 2) * sizes.profiling
    runs = SkipItRuns().forward_cost * len(modes) * sizes.profiling
    stable = 3 * slopes * read if sizes.beside else 0.0
    return Effort(answers, each * (1 + nulls) + runs + stable, seconds_per_answer)


def effort_of(case: Case, settings: ClaimsSettings) -> Effort:
    """`count_effort` of a loaded model; one batch of tuning questions is answered and timed."""
    vlm, tuning = case.vlm, case.splits.tuning
    reasons = supported_modes(vlm)
    return count_effort(
        vlm.layout.n_layers,
        tuple(mode for mode in protocol.MODES if not reasons[mode]),
        settings,
        seconds_per_answer=seconds_per_answer(
            vlm, tuning, batch_size=settings.batch_size, max_new_tokens=settings.max_new_tokens
        ),
        n_nulls=2 if all(item.files for item in tuning) else 1,
    )


def seconds_per_answer(
    vlm: VLM, items: Sequence[Item], *, batch_size: int, max_new_tokens: int
) -> float:
    """Seconds of an answer in a batch of the first `items`, the faster of two runs."""
    batch = next(batches(vlm, items[:batch_size], batch_size=batch_size))
    seconds = []
    with vlm.whole():
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
            seconds.append((time.perf_counter() - start) / len(batch.items))
    return min(seconds)
