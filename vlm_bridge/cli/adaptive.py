"""`skipit adaptive`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from vlm_bridge.cli.adaptive_words import interval, said
from vlm_bridge.cli.options import DataOptions, MaxNewTokens, ModelOptions
from vlm_bridge.cli.output import resumable, save, say
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import adaptive_outcomes
from vlm_bridge.evaluate.adaptive_cost import AdaptiveMeasure, gate_costs
from vlm_bridge.evaluate.adaptive_latency import StreamLatency, stream_latency, stream_places
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.by_token import TokenMeasure, token_outcomes
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan

#: Batch sizes at which a stream of questions is timed.
STREAMS = (1, 8)
#: Questions that are timed, where a caller does not say.
TIMED = 32


def adaptive(
    model: ModelOptions,
    plan: Annotated[Path, Argument(help="Adaptive plan, from `skipit search --adaptive`.")],
    data: DataOptions,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    latency: Annotated[
        int | None,
        Option(
            min=0,
            help="First questions to time, at batch sizes 1 and 8; 0: none (default: 32, or all of "
            "fewer).",
        ),
    ] = None,
    out: Annotated[Path, Option(help="JSON to write.")] = Path("out/adaptive.json"),
) -> Any:
    """Run an adaptive plan beside the full model: answers, cost, latency. Resumable.

    An answer that is not sure enough goes to the next plan, at last to the full model. Prints the
    share of changed answers, of answers by the full model, and the expected prefill FLOPs; then the
    time of whole answers, one question after another and in batches of 8, beside the full model and
    the first plan alone. Each figure has an interval, by image; that of times is by batch at batch
    size 8. That of the expected FLOPs is about how often the full model answers, given the FLOPs
    of each plan, which are counted on the first 16 questions.

    Example: `skipit adaptive reference out/search/adaptive.json --data easy-vqa:test --limit 100`
    """
    chosen, items = AdaptivePlan.read(plan), data.items()
    to_time = _to_time(items, latency)
    vlm, size = model.load(), data.batch_size
    length = {"batch_size": size, "max_new_tokens": max_new_tokens}
    with resumable(out) as checkpoint, resumable(out, "-full.jsonl") as of_full:
        full = FullAnswers.ask(vlm, items, **length, checkpoint=of_full)
        measured = _measure(full, vlm, chosen, batch_size=size, checkpoint=checkpoint)
        timed = [
            stream_latency(vlm, to_time, chosen, batch_size=each, max_new_tokens=max_new_tokens)
            for each in STREAMS
            if to_time
        ]
        whose = {"model": vlm.name, "fingerprint": vlm.fingerprint}
        body = {**whose, "measured": measured.to_json()}
        result = save(out, {**body, "latency": [each.to_json() for each in timed]})
    say(chosen.describe(vlm.layout.modality))
    say(said(measured, items))
    for each in timed:
        say(_timed(each))
    say(f"adaptive: {out}")
    return result


def _measure(
    full: FullAnswers, vlm: VLM, plan: AdaptivePlan, *, batch_size: int, checkpoint: Path
) -> AdaptiveMeasure | TokenMeasure:
    how: Any = {"batch_size": batch_size, "checkpoint": checkpoint}
    if plan.by_token:
        return token_outcomes(full, vlm, plan, **how).measure(plan)
    outcomes, gates = adaptive_outcomes(full, vlm, plan, **how)
    costs = gate_costs(vlm, full.items, plan)
    return AdaptiveMeasure.of(plan, outcomes.disagree, gates, outcomes.clusters, costs)


def _to_time(items: Sequence[Item], latency: int | None) -> list[Item]:
    """The questions to time; refuses, before any work, those of which no time has an interval."""
    if latency is not None and latency > len(items):
        raise BridgeError(
            f"--latency {latency} questions are to be timed, and the data has {len(items)}; give "
            f"--latency {len(items)} or less, or more data"
        )
    chosen = list(items[: TIMED if latency is None else latency])
    try:
        for size in STREAMS if chosen else ():
            stream_places(chosen, size)
    except BridgeError as error:
        raise BridgeError(f"{error}; with --latency 0 no times are measured") from error
    return chosen


def _timed(timed: StreamLatency) -> str:
    fixed, adaptive = interval(timed.fixed_ratio), interval(timed.adaptive_ratio)
    questions = f"{timed.n_questions} questions, {timed.full_share:.0%} by the full model"
    return (
        f"whole answers at batch {timed.batch_size}: fixed {fixed}, adaptive {adaptive} of the "
        f"full model's {timed.seconds_full:.3g} s ({questions}; deciding took "
        f"{timed.decision_share:.2%}); {timed.dtype}, {timed.device}"
    )
