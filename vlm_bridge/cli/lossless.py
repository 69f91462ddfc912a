"""`skipit cost --lossless`: whether a plan pays as the draft of the same model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimators import Estimate
from vlm_bridge.cli.output import say
from vlm_bridge.cost import (
    LosslessPrediction,
    LosslessSpeed,
    PassTimes,
    acceptance_rate,
    pass_times,
    predict_lossless,
    time_lossless,
)
from vlm_bridge.data import Item, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.lossless.draft import saves_in_decoding

#: Most drafted tokens of a round that are tried.
MOST_DRAFTS = 8
#: Drafted tokens of a round while acceptance is measured.
_ACCEPTANCE_DRAFTS = 4


def lossless_cost(
    vlm: VLM,
    items: Sequence[Item],
    plan: SkipPlan,
    *,
    acceptance: float | None,
    draft_tokens: int | None,
    pairs: int,
    tokens: int,
) -> dict[str, Any]:
    """Predict and measure, say both, and return them; the prediction is said first.

    `acceptance` is measured on the items if it is None, and `draft_tokens` is the number that is
    predicted to be best.
    """
    if tokens < 2:
        raise BridgeError(f"--lossless times tokens after the first; give --tokens 2 up, {tokens=}")
    saves = saves_in_decoding(plan)
    if not saves:
        say(
            "this plan skips modality tokens alone, which are in the prompt: in decoding it saves "
            "nothing, and its draft is the full model"
        )
    word = unit_word(items)
    rate: float | Estimate
    if acceptance is None:
        rate = acceptance_rate(
            vlm, items, plan, draft_tokens=_ACCEPTANCE_DRAFTS, max_new_tokens=tokens
        )
        say(
            f"acceptance of a judged drafted token {_between(rate)} ({rate.n} {word}, "
            f"{_ACCEPTANCE_DRAFTS} drafted tokens a round, answers up to {tokens} tokens)"
        )
    else:
        rate = acceptance
        say(f"acceptance of a judged drafted token {acceptance:.2f}, as given")
    inputs = next(batches(vlm, items[:1], batch_size=1)).inputs
    times = pass_times(vlm, inputs, plan, most_drafts=MOST_DRAFTS, pairs=pairs)
    low, middle, high = predictions(rate, times, saves=saves)
    k = middle.best.draft_tokens if draft_tokens is None else draft_tokens
    for line in prediction_lines(times, (low, middle, high), k, saves=saves):
        say(line)
    speed = time_lossless(vlm, items, plan, draft_tokens=k, max_new_tokens=tokens)
    say(speed_line(speed, word))
    return {
        "acceptance": rate.to_json() if isinstance(rate, Estimate) else rate,
        "passes": times.to_json(),
        "prediction": middle.to_json(),
        "measured": speed.to_json(),
    }


def predictions(
    acceptance: float | Estimate, times: PassTimes, *, saves: bool = True
) -> tuple[LosslessPrediction, LosslessPrediction, LosslessPrediction]:
    """The prediction from the unfavourable ends of all intervals, the values, the other ends.

    A plan that `saves` nothing in decoding drafts by the full model: a draft pass is a full pass,
    and no pass over more tokens is shorter, whatever the noise of their times.
    """
    a, least = acceptance, 0.0 if saves else 1.0

    def predicted(accepted: float, drafted: float, verified: list[float]) -> LosslessPrediction:
        drafted = drafted if saves else 1.0
        return predict_lossless(accepted, drafted, [max(least, each) for each in verified])

    accepted = (*a.interval, a.value) if isinstance(a, Estimate) else (a, a, a)
    draft, verify = times.draft_ratio, times.verify_ratios
    return (
        predicted(accepted[0], draft.interval[1], [v.interval[1] for v in verify]),
        predicted(accepted[2], draft.value, [v.value for v in verify]),
        predicted(accepted[1], draft.interval[0], [v.interval[0] for v in verify]),
    )


def prediction_lines(
    times: PassTimes, found: Sequence[LosslessPrediction], k: int, *, saves: bool = True
) -> list[str]:
    """What is predicted for k drafted tokens; `found` are the three `predictions`."""
    low, middle, high = (each.rounds[k - 1] for each in found)
    speed_ups = [1 / each.work_per_token for each in (low, middle, high)]
    verdict = "pays" if speed_ups[1] > 1 else "does not pay"
    if not saves:
        verdict = "does not pay, since the plan skips nothing in decoding"
    elif speed_ups[0] <= 1 <= speed_ups[2]:
        verdict = "not decided, 1 is within the interval"
    which = "the best of" if middle == found[1].best else "of"
    return [
        f"full pass {times.seconds_full * 1e3:.3g} ms; draft pass {_between(times.draft_ratio)} of "
        f"it, full pass over {k + 1} tokens {_between(times.verify_ratios[k - 1])} of it",
        f"predicted for k = {k} drafted tokens, {which} 1 to {len(found[1].rounds)}: "
        f"{middle.tokens:.2f} tokens for {middle.work:.2f} full passes, "
        f"{middle.work_per_token:.2f} passes a token, speed-up {speed_ups[1]:.2f} "
        f"({speed_ups[0]:.2f} to {speed_ups[2]:.2f}): {verdict}",
    ]


def speed_line(speed: LosslessSpeed, word: str) -> str:
    """What was measured."""
    low, high = speed.time_ratio.interval
    interval = f"{1 / high:.2f} to {1 / low:.2f}"
    if not speed.time_ratio.reliable:
        interval = f"{speed.time_ratio.reason}; each question is one pair, raise --limit or --data"
    return (
        f"measured: {speed.per_second_full:.3g} tokens per second full; lossless (k = "
        f"{speed.draft_tokens}) speed-up {speed.speed_up:.2f} ({interval}; median of the paired "
        f"ratios of {speed.prompts} {word}); {speed.same_answers} of {speed.prompts} answers equal "
        "token for token"
    )


def _between(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{estimate.value:.2f} ({low:.2f} to {high:.2f})"
