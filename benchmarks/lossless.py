"""Lossless generation beside other ways to the same greedy answers: tokens per second.

    python -m benchmarks.lossless --json

Every way is timed in turn with the full model's `generate`, one prompt at a time, from the first
token to the last; which of the two runs first alternates. `speed_up` is the time of a token of the
full model over that of the way: the median over prompts of this paired ratio, with the 95 %
interval of order statistics. Tokens per second of the way are not reported: the machine drifts from
prompt to prompt, so that two medians over prompts may contradict the paired ratios.
`per_second_full` gives the scale. `same` counts the answers that were equal token for token. The
other ways are those of transformers that need no second model: prompt lookup, and
`assistant_early_exit`, which drafts with the first layers of the model and a second cache. A way
that does not run on a class of models has its error in place of figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks import _help
from benchmarks._table import report
from vlm_bridge.cost import time_lossless
from vlm_bridge.cost.in_turn import Answer, InTurn, Ticks, answers_in_turn
from vlm_bridge.data import TASKS, Item, first_units, limit_per_image
from vlm_bridge.errors import first_line
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.plan.text import read_plan
from vlm_bridge.runtime.quiet import quiet_transformers

#: Model -> its questions, plans of its draft, and the depth of transformers' early exit.
CASES: dict[str, tuple[str, tuple[str, ...], int]] = {
    "smollm2-135m": (
        "python-docs:test",
        ("block layers=17", "block layers=10,14,17,20", "sublayer attention=10,14,17,20"),
        24,
    ),
    "reference": ("easy-vqa:test", ("block layers=17", "freeze layers=10-29"), 24),
    "photos-smollm2": ("fashion-photos:test", ("block layers=17",), 24),
}


def by_generate(vlm: VLM, most: int, **options: Any) -> Answer:
    """A way of transformers' own `generate`."""

    def answer(inputs: Mapping[str, Tensor], ticks: Ticks) -> tuple[int, ...]:
        with quiet_transformers():
            made: Any = vlm.model.generate(
                **inputs,
                **options,
                do_sample=False,
                num_beams=1,
                max_new_tokens=most,
                streamer=ticks,
            )
        return tuple(made[0, inputs["input_ids"].shape[1] :].tolist())

    return answer


def row(model: str, way: str, k: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """One measured way; its error if it does not run."""
    figures: dict[str, Any] = dict.fromkeys(
        ("per_second_full", "speed_up", "low", "high", "same", "prompts")
    )
    refused = ""
    try:
        figures |= measure()
    except Exception as error:  # of a class that the way was not made for, which is a result
        refused = f"{type(error).__name__}: {first_line(error)}"
    return {"model": model, "way": way, "draft_tokens": k, **figures, "does_not_run": refused}


def of_times(times: InTurn) -> dict[str, Any]:
    """The figures of a way of transformers."""
    low, high = times.ratio.interval
    return {
        "per_second_full": 1 / statistics.median(times.full),
        "speed_up": 1 / times.ratio.value,
        "low": 1 / high,
        "high": 1 / low,
        "same": times.same,
        "prompts": times.prompts,
    }


def of_plan(vlm: VLM, items: list[Item], words: str, k: int, most: int) -> dict[str, Any]:
    """The figures of a plan as a draft."""
    plan = read_plan(words)(vlm.layout.depth)
    found = time_lossless(vlm, items, plan, draft_tokens=k, max_new_tokens=most)
    low, high = found.time_ratio.interval
    return {
        "per_second_full": found.per_second_full,
        "speed_up": found.speed_up,
        "low": 1 / high,
        "high": 1 / low,
        "same": found.same_answers,
        "prompts": found.prompts,
    }


def rows(model: str, prompts: int, k: int, most: int) -> list[dict[str, Any]]:
    """All ways on one model."""
    data, plans, depth = CASES[model]
    name, _, split = data.partition(":")
    vlm, items = load(model), first_units(limit_per_image(TASKS[name](split), 1), prompts)
    early = {
        "assistant_early_exit": depth,
        "num_assistant_tokens": k,
        "num_assistant_tokens_schedule": "constant",
        "assistant_confidence_threshold": 0.0,
    }
    ways = {
        f"prompt lookup, {k} tokens": {"prompt_lookup_num_tokens": k},
        f"assistant_early_exit={depth}": early,
    }

    def timed(options: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        answer = by_generate(vlm, most, **options)
        return lambda: of_times(answers_in_turn(vlm, items, answer, max_new_tokens=most))

    found = [
        row(model, f"lossless: {words}", k, lambda w=words: of_plan(vlm, items, w, k, most))  # type: ignore[misc]
        for words in plans
    ]
    return [*found, *(row(model, way, k, timed(options)) for way, options in ways.items())]


def main() -> None:
    """Measure every way on every model."""
    parser = _help.parser("lossless", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--model", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--prompts", type=int, default=12, help="images or texts (default: 12)")
    parser.add_argument("--draft-tokens", type=int, default=2, help="of a round (default: 2)")
    parser.add_argument("--tokens", type=int, default=32, help="longest answer (default: 32)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = [
        one
        for model in options.model
        for one in rows(model, options.prompts, options.draft_tokens, options.tokens)
    ]
    report(
        "lossless: speed after the first token, greedy",
        found,
        as_json=options.json,
        tokens=options.tokens,
        interval="95 % of the median over prompts of the paired ratio",
    )


if __name__ == "__main__":
    main()
