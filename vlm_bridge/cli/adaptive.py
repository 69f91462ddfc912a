"""`skipit adaptive`, and the adaptive form of `skipit search`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from estimators import Estimate
from theory import what_it_takes
from vlm_bridge.cli.as_json import CheckFailed
from vlm_bridge.cli.options import DataOptions, MaxNewTokens, ModelOptions
from vlm_bridge.cli.output import resumable, save, say
from vlm_bridge.data import Item, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import adaptive_outcomes
from vlm_bridge.evaluate.adaptive_cost import SAMPLED, AdaptiveMeasure, gate_costs
from vlm_bridge.evaluate.adaptive_latency import StreamLatency, stream_latency, stream_places
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.figures.adaptive import plot_front
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection.adaptive import CertifiedAdaptive, adaptive_search

Adaptive = Annotated[
    bool, Option("--adaptive", help="Send answers that are not sure enough to the full model.")
]
Signals = Annotated[
    list[str] | None,
    Option(
        help="With --adaptive, repeatable: margin (default), entropy or confidence of a plan's "
        "answer; agreement of two plans, tried for every pair of candidates."
    ),
]
Over = Annotated[
    str, Option(help="With --adaptive: 'answer', the least sure of its tokens, or 'first' token.")
]
Gates = Annotated[
    int,
    Option(
        help="With --adaptive: most plans of a chain, each with a threshold, before the full "
        "model. More fit the tuning images better, and need more of them."
    ),
]
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
        outcomes, gates = adaptive_outcomes(
            full, vlm, chosen, batch_size=size, checkpoint=checkpoint
        )
        costs = gate_costs(vlm, items, chosen)
        measured = AdaptiveMeasure.of(chosen, outcomes.disagree, gates, outcomes.clusters, costs)
        timed = [
            stream_latency(vlm, to_time, chosen, batch_size=each, max_new_tokens=max_new_tokens)
            for each in STREAMS
            if to_time
        ]
        whose = {"model": vlm.name, "fingerprint": vlm.fingerprint}
        body = {**whose, "measured": measured.to_json()}
        result = save(out, {**body, "latency": [each.to_json() for each in timed]})
    say(chosen.describe(vlm.layout.modality))
    say(_measured(measured, items))
    for each in timed:
        say(_timed(each))
    say(f"adaptive: {out}")
    return result


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


def search_adaptive(
    vlm: VLM,
    tuning: Sequence[Item],
    certification: Sequence[Item],
    candidates: Sequence[SkipPlan],
    *,
    signals: Sequence[str],
    over: str,
    gates: int,
    epsilon: float,
    delta: float,
    batch_size: int,
    max_new_tokens: int,
    ledger: Ledger | None,
    check: bool,
    out: Path,
) -> Any:
    """`skipit search --adaptive`: writes search.json, front.png, and adaptive.json if certified."""
    found = adaptive_search(
        *(vlm, tuning, certification, candidates),
        signals=signals,
        over=over,
        gates=gates,
        epsilon=epsilon,
        delta=delta,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        checkpoint=out / "checkpoints",
        ledger=ledger,
    )
    result, words = save(out / "search.json", found.to_json()), vlm.layout.modality
    if is_main():
        plot_front(out / "front.png", found.front, found.fixed, found.tested, epsilon=epsilon)
    for tested, certificate in zip(found.tested, found.certificates, strict=True):
        verdict = "passes" if certificate.holds else "fails"
        say(f"tested: {tested.plan.describe(words)}: {_measured(tested, certification)}; {verdict}")
    if found.plan is None or found.certificate is None:
        if is_main():  # of an earlier search
            (out / "adaptive.json").unlink(missing_ok=True)
        for failed in found.certificates:
            say(what_it_takes(failed))
        say(f"no adaptive plan could be certified at epsilon {epsilon}: {out}/search.json")
        if check:
            raise CheckFailed(result)
        return result
    save(out / "adaptive.json", found.plan.to_json())
    say(f"certified: {found.plan.describe(words)}: {found.certificate.sentence()}")
    say(f"{_cost(found)}: {out}/adaptive.json, {out}/front.png")
    return result


def check_adaptive_options(adaptive: bool, stack: str, given: Sequence[object]) -> None:
    """Raise a `BridgeError` for an encoder with --adaptive, or `given` options of it without."""
    if not adaptive and given:
        got = ", ".join(map(str, given))
        raise BridgeError(f"--signal, --over and --gates go with --adaptive, got {got} without")
    if adaptive and stack != DECODER:
        raise BridgeError(
            f"--adaptive searches layers of the decoder, got --stack {stack}; an encoder's output "
            "is what an adaptive plan shares"
        )


def _cost(found: CertifiedAdaptive) -> str:
    assert found.cost is not None
    together = f"{len(found.path)} steps hold together" if len(found.path) > 1 else "1 step"
    return (
        f"expected prefill FLOPs {_interval(found.cost)} of the full model's, on the certification "
        f"images, given FLOPs counted on {SAMPLED} tuning questions at most (intervals of "
        f"{together})"
    )


def _measured(measured: AdaptiveMeasure, items: Sequence[Item]) -> str:
    n = measured.changed.n
    return (
        f"{_interval(measured.changed, 100)} % of answers changed, {_interval(measured.full, 100)} "
        f"% by the full model, expected FLOPs {_interval(measured.cost)} of the full model's "
        f"({n} {unit_word(items, n)})"
    )


def _timed(timed: StreamLatency) -> str:
    fixed, adaptive = _interval(timed.fixed_ratio), _interval(timed.adaptive_ratio)
    questions = f"{timed.n_questions} questions, {timed.full_share:.0%} by the full model"
    return (
        f"whole answers at batch {timed.batch_size}: fixed {fixed}, adaptive {adaptive} of the "
        f"full model's {timed.seconds_full:.3g} s ({questions}; deciding took "
        f"{timed.decision_share:.2%}); {timed.dtype}, {timed.device}"
    )


def _interval(estimate: Estimate, scale: float = 1.0) -> str:
    """Value and interval with three digits.

    >>> from estimators import clustered_mean
    >>> _interval(clustered_mean([0, 1] * 50, range(100), bounds=(0, 1)))
    '0.5 (0.367 to 0.633)'
    """
    low, high = estimate.interval
    return f"{scale * estimate.value:.3g} ({scale * low:.3g} to {scale * high:.3g})"
