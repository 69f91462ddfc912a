"""Run a survey: quality, single skips on whole answers, distances, slopes, a certified search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators import Estimate, clustered_mean
from vlm_bridge.cost import Cost, measure_cost
from vlm_bridge.data import Item, check_disjoint, first_units, unit_word
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, with_other_inputs
from vlm_bridge.evaluate.compare import Comparison, check_images
from vlm_bridge.evaluate.controls import (
    BANDS,
    Controlled,
    Knockout,
    compare_with_controls,
    knockouts,
)
from vlm_bridge.evaluate.full_answers import DECISION, FullAnswers
from vlm_bridge.evaluate.next_token import next_token_agreement
from vlm_bridge.evaluate.sweep import sweep_plans
from vlm_bridge.evaluate.word_errors import word_error_rate, word_errors
from vlm_bridge.experiments.survey.results import Quality, Survey
from vlm_bridge.model.given import check_items, check_vlm
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import profile, random_copy
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.plan.units import union
from vlm_bridge.rules.measure.slopes import measure_slopes
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.runtime.machine import machine
from vlm_bridge.selection import CertifiedPlan, search
from vlm_bridge.selection.path import STAIRS
from vlm_bridge.skip import supported_modes

#: Units on which a certified plan is compared with random plans.
CONTROL_UNITS = 60
#: Modes whose single skips are surveyed, as far as the model has them.
SURVEYED = ("block", "sublayer", "freeze", "early_exit", "late_entry")


@dataclass(frozen=True)
class SurveyData:
    """The questions of a survey, by role; no unit is in two of the first three.

    Attributes:
        data: on them single skips are tried, and the candidates of the search are ordered.
        certification: certify the plan; without them nothing is searched.
        test: the full model and the certified plan are judged on them; default: on `data`.
        training: give the blind baseline.
    """

    data: Sequence[Item]
    certification: Sequence[Item] = ()
    test: Sequence[Item] = ()
    training: Sequence[Item] = ()

    def check(self) -> None:
        """Raise a `BridgeError` if there are too few units, or one has two roles."""
        check_items(self.data)
        check_images(self.data)
        for name in ("certification", "test"):
            check_disjoint(self.data, getattr(self, name), f"are also in the {name} questions")
        check_disjoint(self.certification, self.test, "are in both; certify and test on others")
        if self.test:
            check_images(self.test)
        asked = self.test or self.data
        for name, items in (("training", self.training), ("test", self.training and asked)):
            if items and all(item.answer is None for item in items):
                raise BridgeError(
                    f"a blind baseline needs answers, and no {name} question has one; leave the "
                    "training questions out"
                )


def survey(
    vlm: VLM,
    given: SurveyData,
    *,
    folder: Path,
    names: dict[str, str] | None = None,
    sources: Sequence[str] = (),
    stack: str = DECODER,
    modes: Sequence[str] = SURVEYED,
    step: int = 1,
    epsilon: float = 0.05,
    delta: float = 0.05,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int = 16,
    random_units: int = 16,
    ledger: Ledger | None = None,
) -> Survey:
    """Survey one stack of a model; finished parts are kept in `folder`, and a second call resumes.

    The candidates of the search are the single skips and, for each mode of layers, their unions in
    the order of harm on `data`, the least harmful first. Smaller ones (`STAIRS`) are tested before
    the largest that changes no answer to `data`, which are few.

    Args:
        vlm: not inside `skipping`.
        given: the questions.
        folder: for checkpoints.
        names: role -> name of its questions, for the record.
        sources: lines that name whose models and data are used.
        stack: one of `vlm.layout.stacks`.
        modes: some of `SURVEYED`; those that the stack does not have are left out.
        step: every `step`-th layer and depth.
        epsilon: bound to certify.
        delta: probability that the certificate is wrong.
        max_new_tokens: longest answer, in tokens.
        batch_size: questions in a batch.
        random_units: units that a copy with random weights is asked; 0: it is not asked.
        ledger: knows what was spent on the certification questions.

    Raises:
        BridgeError: no such stack, no mode that it has, a unit in two roles, too few units, a
            checkpoint of another run.
    """
    check_vlm(vlm)
    given.check()
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not 0 < value < 1:
            raise BridgeError(f"{name} must lie between 0 and 1, got {value}")
    begun, n_layers = time.perf_counter(), vlm.layout.depth(stack)
    plans = single_plans(vlm, stack, modes, step)
    generating: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}

    def ask(asked: VLM, role: str, items: Sequence[Item]) -> FullAnswers:
        file = folder / f"answers-{role}.jsonl"
        return FullAnswers.ask(asked, items, checkpoint=file, **generating)

    full = ask(vlm, "data", given.data)
    test = ask(vlm, "test", given.test) if given.test else full
    copy = random_copy(vlm)
    few = first_units(test.items, random_units)
    random = ask(copy, f"random-{len(few)}", few) if few else None
    other = None
    if all(item.files for item in test.items):
        other = ask(vlm, "other", with_other_inputs(test.items))
    # What a model cannot be measured by is refused before the long runs.
    own = profile(vlm, given.data, batch_size=batch_size, stack=stack)
    of_copy = profile(copy, given.data, batch_size=batch_size, stack=stack)
    outcomes = full.of_plans(vlm, plans, batch_size=batch_size, checkpoint=folder / "singles.jsonl")
    singles = tuple(
        Comparison.of(p, o, DECISION, vlm) for p, o in zip(plans, outcomes, strict=True)
    )
    agreement: list[Estimate] = []
    if stack == DECODER and all(item.kinds == ("text",) for item in given.data):
        if not vlm.layout.encoder_decoder:
            file = folder / "next-tokens.jsonl"
            agreement = next_token_agreement(
                vlm, given.data, plans, batch_size=batch_size, checkpoint=file
            )
    slopes, no_slopes = _slopes(vlm, given.data, stack, batch_size, folder / "slopes.jsonl")
    blind_to: tuple[Knockout, ...] = ()
    if stack == DECODER:
        blind_to = tuple(knockouts(vlm, full, BANDS, folder, batch_size))
    found, candidates = None, candidate_plans(singles)
    if given.certification:
        found = search(
            *(vlm, given.data, given.certification, candidates),
            epsilon=epsilon,
            delta=delta,
            stairs=STAIRS,
            checkpoint=folder / "search",
            ledger=ledger,
            **generating,
        )
    tested, cost, controls = _certified(vlm, test, found, folder, batch_size)
    roles = {"data": given.data, "certification": given.certification, "test": given.test}
    roles["random"] = few
    return Survey(
        model=vlm.name,
        fingerprint=vlm.fingerprint,
        modality=vlm.layout.modality,
        stack=stack,
        n_layers=n_layers,
        sources=tuple(sources),
        data=dict(names or {}),
        counts={role: len({item.cluster for item in items}) for role, items in roles.items()},
        questions={role: len(items) for role, items in roles.items()},
        unit=unit_word(given.data),
        max_new_tokens=max_new_tokens,
        full=quality(test.texts, test.items),
        random=None if random is None else quality(random.texts, few, test.texts[: len(few)]),
        other=None if other is None else quality(other.texts, other.items, test.texts),
        blind=_blind(given.training, test.items),
        singles=singles,
        agreement=tuple(agreement),
        profile=own,
        profile_random=of_copy,
        slopes=slopes,
        no_slopes=no_slopes,
        knockouts=blind_to,
        epsilon=epsilon,
        delta=delta,
        candidates=len(candidates),
        search=found,
        tested=tested,
        cost=cost,
        controls=controls,
        machine={name: str(value) for name, value in machine().items()},
        seconds=time.perf_counter() - begun,
    )


def single_plans(vlm: VLM, stack: str, modes: Sequence[str], step: int = 1) -> list[SkipPlan]:
    """Every single skip of the modes that a stack has, without those that skip nothing.

    Raises:
        BridgeError: the stack has none of the modes; the message says why.
    """
    if unknown := [mode for mode in modes if mode not in SURVEYED]:
        raise BridgeError(f"no mode {shown(unknown[0])}; a survey has {', '.join(SURVEYED)}")
    reasons = supported_modes(vlm, stack)
    usable = [mode for mode in modes if mode in reasons and not reasons[mode]]
    if not usable:
        if not modes:
            raise BridgeError("a survey needs at least one mode, got none")
        why = next((reasons[mode] for mode in modes if reasons.get(mode)), "unknown modes")
        raise BridgeError(f"{vlm.name} has none of {', '.join(modes)} in its {stack}: {why}")
    plans = sweep_plans(vlm.layout.depth(stack), step=step, modes=usable, stack=stack)
    return [plan for plan in plans if not plan.is_empty]


def candidate_plans(singles: Sequence[Comparison]) -> list[SkipPlan]:
    """The single skips and, by mode of layers, unions of the least harmful; deeper ones on ties."""
    plans = [single.plan for single in singles]
    for mode in LAYERWISE:
        ranked = sorted(
            (single for single in singles if single.plan.mode == mode),
            key=lambda single: (single.disagreement.value, -single.plan.first_layer),
        )
        ordered = [single.plan for single in ranked]
        plans += [union(ordered[:count]) for count in range(2, len(ordered))]
    return plans


def quality(
    texts: Sequence[str], items: Sequence[Item], full: Sequence[str] | None = None
) -> Quality:
    """Accuracy and word error rate of answers, and how many equal the full model's (`full`)."""
    labelled = any(item.answer is not None for item in items)
    errors = [word_errors(text, item) for text, item in zip(texts, items, strict=True)]
    same = None
    if full is not None:
        equal = [float(text == other) for text, other in zip(texts, full, strict=True)]
        same = clustered_mean(equal, [item.cluster for item in items], bounds=(0, 1))
    return Quality(
        accuracy=accuracy(texts, items) if labelled else None,
        word_errors=word_error_rate(errors, items),
        same=same,
    )


def _blind(training: Sequence[Item], items: Sequence[Item]) -> Estimate | None:
    return accuracy(blind_answers(training, items), items) if training else None


def _compared(
    vlm: VLM, full: FullAnswers, plan: SkipPlan, checkpoint: Path, batch_size: int
) -> Comparison:
    outcomes = full.outcomes(vlm, plan, batch_size=batch_size, checkpoint=checkpoint)
    return Comparison.of(plan, outcomes, DECISION, vlm)


def _slopes(
    vlm: VLM, items: Sequence[Item], stack: str, batch_size: int, checkpoint: Path
) -> tuple[dict[str, tuple[float, ...]], str]:
    """Predicted KL by kind and layer, or the reason why there is none."""
    if stack != DECODER:
        return {}, "slopes are of a decoder"
    kinds = ["block", "freeze", "unseen"] if vlm.layout.modality else ["block"]
    try:
        measured = measure_slopes(
            vlm, items, kinds=kinds, batch_size=batch_size, checkpoint=checkpoint
        )
    except BridgeError as error:
        return {}, str(error)
    rows = measured.rows()
    return {kind: tuple(row.kl for row in rows if row.kind == kind) for kind in kinds}, ""


def _certified(
    vlm: VLM,
    test: FullAnswers,
    found: CertifiedPlan | None,
    folder: Path,
    batch_size: int,
) -> tuple[Comparison | None, Cost | None, Controlled | None]:
    """The certified plan on the test questions, its cost, and its controls."""
    if found is None or found.certificate is None:
        return None, None, None
    controls = compare_with_controls(
        vlm,
        first_units(test.items, CONTROL_UNITS),
        found.plan,
        folder=folder / "controls",
        bands=0,
        batch_size=batch_size,
        max_new_tokens=test.max_new_tokens,
    )
    file = folder / f"tested-{found.plan.hash()[:12]}.jsonl"
    tested = _compared(vlm, test, found.plan, file, batch_size)
    cost = measure_cost(vlm, test.items, found.plan, batch_size=min(4, batch_size), tokens=8)
    return tested, cost, controls
