"""`whole_run`: every step on one model, each into a file that a single command takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from estimators import Profile
from theory import label_free_drop
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answered_items import write_answered
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.compare_answers import compare_answers
from vlm_bridge.evaluate.full_answers import DECISION
from vlm_bridge.evaluate.paired import paired_answers
from vlm_bridge.evaluate.scorers import find_scorers
from vlm_bridge.experiments.whole_run.results import RuleScores, RunResult
from vlm_bridge.experiments.whole_run.settings import RunSettings, json_of
from vlm_bridge.experiments.whole_run.splits import RunSplits
from vlm_bridge.model.given import check_vlm
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, Rule, check_mode, find_rule, nested_plans, score_units
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import write_json
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.runtime.machine import machine
from vlm_bridge.selection import search
from vlm_bridge.skip import supported_modes


def whole_run(
    vlm: VLM,
    splits: RunSplits,
    settings: RunSettings,
    *,
    folder: Path,
    others: Mapping[str, Any] | None = None,
    ledger: Ledger | None = None,
) -> RunResult:
    """Profile, score, search, certify, compare and time; files go into `folder`.

    Profiling questions rank the layers, tuning questions choose a path of plans, certification
    questions test it in sequence, and test questions report the certified plan. Finished batches
    are kept in `folder/checkpoints`: a second call resumes.

    Args:
        vlm: not inside `skipping`.
        splits: the questions.
        settings: what to try, and which promise is wanted.
        folder: for profile.json, rules.json, search.json, plan.json, certificates.json,
            comparison.json, answers.jsonl, cost.json and run.json.
        others: names beside the settings that the record keeps, such as where the data lie.
        ledger: knows what was spent on the certification questions.

    Raises:
        BridgeError: no rule has a mode that the model has; a checkpoint of another run.
    """
    check_vlm(vlm)
    begun, kept = time.perf_counter(), folder / "checkpoints"
    sizes: Any = {"batch_size": settings.batch_size, "max_new_tokens": settings.max_new_tokens}
    measured = profile(
        vlm,
        splits.profiling,
        batch_size=settings.batch_size,
        checkpoint=kept / "profile.jsonl",
    )
    _write(folder / "profile.json", measured)
    scores, candidates = rank(vlm, splits, settings, measured)
    if is_main():
        write_json(folder / "rules.json", [each.to_json() for each in scores])
    found = search(
        *(vlm, splits.tuning, splits.certification, candidates),
        epsilon=settings.epsilon,
        delta=settings.delta,
        checkpoint=kept / "search",
        ledger=ledger,
        **sizes,
    )
    _write(folder / "search.json", found)
    plan, certificate = found.plan, found.certificate
    drop = None if certificate is None else label_free_drop(certificate)
    tested: Any = (None, None, None)
    if certificate is not None and drop is not None:
        _write(folder / "plan.json", plan)
        if is_main():
            both = [certificate.to_json(), drop.to_json()]
            write_json(folder / "certificates.json", both)
        tested = _test(vlm, plan, splits, settings, folder, sizes)
    elif is_main():  # of an earlier run
        for name in ("plan", "certificates", "comparison", "cost"):
            (folder / f"{name}.json").unlink(missing_ok=True)
        (folder / "answers.jsonl").unlink(missing_ok=True)
    comparison, answers, cost = tested
    result = RunResult(
        model=vlm.name,
        fingerprint=vlm.fingerprint,
        modality=vlm.layout.modality,
        n_layers=vlm.layout.n_layers,
        settings={**(others or {}), **json_of(settings)},
        counts=dict(splits.counts()),
        unit=unit_word(splits.certification),
        rules=tuple(scores),
        candidates=len(candidates),
        search=found,
        accuracy_drop=drop,
        comparison=comparison,
        answers=answers,
        cost=cost,
        machine={name: str(value) for name, value in machine().items()},
        seconds=time.perf_counter() - begun,
    )
    _write(folder / "run.json", result)
    return result


def modes_of(vlm: VLM, rule: Rule, wanted: Sequence[str]) -> list[str]:
    """The modes of a rule that are wanted and that the model has; by default the rule's first.

    Example:
        >>> modes_of(vlm, find_rule("shortgpt"), ["block", "freeze"])  # doctest: +SKIP
        ['block']
    """
    if not wanted:
        return [check_mode(rule, None, vlm.layout.modality)]
    reasons = supported_modes(vlm)
    return [mode for mode in wanted if mode in rule.modes and not reasons.get(mode, "")]


def count_candidates(vlm: VLM, settings: RunSettings) -> int:
    """The largest number of plans that a run tries: those of the layers, for each rule and mode.

    Raises:
        BridgeError: no rule has a mode that is wanted and that the model has.
    """
    ranked = [
        mode for name in settings.rule for mode in modes_of(vlm, find_rule(name), settings.mode)
    ]
    if not ranked:
        raise BridgeError(
            f"{vlm.name} has no mode among {', '.join(settings.mode)} that "
            f"{', '.join(settings.rule)} rank; see `skipit describe` and `skipit rules`"
        )
    return len(ranked) * vlm.layout.n_layers


def rank(
    vlm: VLM, splits: RunSplits, settings: RunSettings, measured: Profile
) -> tuple[list[RuleScores], list[SkipPlan]]:
    """Scores of all rules and modes on the profiling questions, and the plans they propose."""
    evidence = Evidence(vlm, splits.profiling, measured, batch_size=settings.batch_size)
    scores, plans = [], []
    for name in settings.rule:
        rule = find_rule(name)
        for mode in modes_of(vlm, rule, settings.mode):
            plans += nested_plans(rule, evidence, mode)
            of_units = tuple(score_units(rule, evidence, mode).tolist())
            cost = sum(evidence.spent.get(name, {}).values())
            scores.append(RuleScores(name, mode, of_units, cost))
    return scores, [plan for plan in dict.fromkeys(plans) if not plan.is_empty]


def _test(
    vlm: VLM,
    plan: SkipPlan,
    splits: RunSplits,
    settings: RunSettings,
    folder: Path,
    sizes: dict[str, int],
) -> Any:
    """Comparison, scores and cost on the test questions, as `skipit compare` and `cost` write."""
    scorers = find_scorers(settings.scorer)
    file = folder / "checkpoints" / f"test-{plan.hash()[:12]}.jsonl"
    said = paired_answers(vlm, splits.test, plan, checkpoint=file, **sizes)
    compared = Comparison.of(plan, said.outcomes(), DECISION, vlm)
    answers = compare_answers(said, scorers)
    cost = measure_cost(
        vlm, splits.test, plan, batch_size=settings.batch_size, pairs=settings.pairs
    )
    parts = {"comparison": compared, "answers": answers, "cost": cost}
    if is_main():
        write_json(
            folder / "comparison.json", {name: part.to_json() for name, part in parts.items()}
        )
        write_answered(folder / "answers.jsonl", said, scorers)
    _write(folder / "cost.json", cost)
    return compared, answers, cost


def _write(path: Path, record: Any) -> None:
    if is_main():
        write_json(path, record.to_json())
