"""What each way to skip saves in the prefill: FLOPs counted beside latency measured.

    python -m benchmarks.skip --json

On the reference VLM and on a random LLaVA with 576 vision tokens (hidden 512, 12 layers); every
plan keeps at most 0.7 of the FLOPs, but `vision_attention` and `vision_mlp`, which skip the smaller
part of a layer. Full and skipped run in turn. `efficiency` is
`flops_ratio / latency_ratio`: 1 where time falls as much as FLOPs do. `over_by_hand` is CPU time of
the skipped prefill, the block around it included, over that of the same skip written by hand
(`benchmarks._by_hand`), run in turn on the same prompts, with the same logits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from benchmarks import _help
from benchmarks._by_hand import ByHand
from benchmarks._llava import prompt, random_llava
from benchmarks._table import report
from estimators import Estimate
from vlm_bridge.cost import Cost, cost_of_inputs
from vlm_bridge.cost.measure import WARM_UP
from vlm_bridge.cost.phase import median_estimate
from vlm_bridge.data import easy_vqa, limit_per_image
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

#: Least efficiency asked of a mode; the others are reported without.
TARGETS = {
    **dict.fromkeys(("block", "early_exit", "late_entry", "band"), 0.85),
    **dict.fromkeys(("freeze", "vision_attention", "vision_mlp", "sublayer"), 0.7),
}


#: Most CPU time of a mode over the same skip written by hand.
BY_HAND = 1.05


def plans(n_layers: int) -> list[SkipPlan]:
    """One plan of every mode and two compositions."""

    def layers(first: float, last: float) -> tuple[int, ...]:
        return tuple(range(round(n_layers * first), round(n_layers * last)))

    def plan(mode: str, **fields: Any) -> SkipPlan:
        return SkipPlan(mode, n_layers, **fields)

    third, half, late = round(n_layers / 3), n_layers // 2, round(n_layers * 0.75)
    single = [
        plan("block", layers=layers(0.25, 0.75)),
        plan("freeze", layers=layers(0.15, 1.0)),
        plan("vision_attention", layers=layers(0.0, 1.0)),
        plan("vision_mlp", layers=layers(0.0, 1.0)),
        plan("early_exit", exit=third),
        plan("late_entry", entry=n_layers - third),
        plan("band", entry=round(n_layers * 0.25), exit=half),
        plan("sublayer", attention=layers(0.0, 0.6), mlp=layers(0.4, 0.95)),
        plan("token_pruning", after=2, keep=0.25),
        plan("progressive_pruning", stages=((2, 0.5), (half, 0.25), (late, 0.125))),
        plan("progressive_pruning", stages=((4, 0.5), (half, 0.25)), entry=2, exit=late),
    ]
    return [
        *single,
        SkipPlan.compose(plan("early_exit", exit=half), plan("sublayer", mlp=layers(0.2, 0.5))),
        SkipPlan.compose(
            plan("band", entry=1, exit=late), plan("freeze", layers=layers(0.25, 0.7))
        ),
    ]


def over_by_hand(
    vlm: VLM, plan: SkipPlan, inputs: Mapping[str, Tensor], pairs: int
) -> Estimate | None:
    """CPU time of a prefill under `plan` over that of the same skip by hand; None if unwritten."""
    if (
        plan.parts
        or type(vlm.layout.layers[0]) is not LlamaDecoderLayer
        or ("random" not in vlm.name)
    ):
        return None
    by_hand = ByHand(vlm, plan)

    def skipped() -> Tensor:
        with torch.no_grad(), skipping(vlm, plan):
            logits: Tensor = vlm.model(**inputs, use_cache=False, logits_to_keep=1).logits
        return logits

    torch.testing.assert_close(skipped(), by_hand(dict(inputs)), atol=1e-4, rtol=1e-4)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(pairs + WARM_UP):
        runs = [(0, lambda: by_hand(dict(inputs))), (1, skipped)]
        for place, run in runs if turn % 2 else reversed(runs):
            start = time.process_time()
            run()
            times[place].append(time.process_time() - start)
    hand, ours = (seconds[WARM_UP:] for seconds in times)
    return median_estimate([ours_s / hand_s for hand_s, ours_s in zip(hand, ours, strict=True)])


def row(vlm: VLM, plan: SkipPlan, cost: Cost, by_hand: Estimate | None) -> dict[str, Any]:
    """One measured plan."""
    low, high = cost.prefill.latency_ratio.interval
    decode = cost.decode
    return {
        "model": vlm.name,
        "mode": plan.mode,
        "plan": plan.describe(),
        "flops_ratio": cost.prefill.flops_ratio,
        "latency_ratio": cost.prefill.latency_ratio.value,
        "low": low,
        "high": high,
        "efficiency": cost.prefill.efficiency,
        "target": TARGETS.get(plan.mode),
        "over_by_hand": None if by_hand is None else by_hand.value,
        "over_by_hand_low": None if by_hand is None else by_hand.interval[0],
        "over_by_hand_high": None if by_hand is None else by_hand.interval[1],
        "over_by_hand_target": None if by_hand is None else BY_HAND,
        "decode_latency_ratio": None if decode is None else decode.latency_ratio.value,
        "kv_ratio": cost.kv_ratio,
        "peak_ratio": cost.peak_ratio,
    }


def models(names: list[str], batch: int) -> list[tuple[VLM, Mapping[str, Tensor]]]:
    """Each model with the inputs it is timed on."""
    found: list[tuple[VLM, Mapping[str, Tensor]]] = []
    if "random" in names:
        found.append((random_llava(), prompt(batch)))
    if "reference" in names:
        vlm = load("reference")
        items = limit_per_image(easy_vqa("test"), 1)[: 4 * batch]
        found.append((vlm, next(batches(vlm, items, batch_size=4 * batch)).inputs))
    return found


def main() -> None:
    """Measure every plan on every model."""
    parser = _help.parser("skip", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--pairs", type=int, default=15, help="timed pairs of a plan")
    parser.add_argument("--tokens", type=int, default=8, help="tokens decoded; 0 leaves it out")
    parser.add_argument("--batch-size", type=int, default=2, help="sequences (reference: 4 times)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mode", nargs="*", help="only these modes")
    parser.add_argument("--model", nargs="*", default=["random", "reference"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for vlm, inputs in models(options.model, options.batch_size):
        for plan in plans(vlm.layout.n_layers):
            if options.mode and plan.mode not in options.mode:
                continue
            by_hand = over_by_hand(vlm, plan, inputs, options.pairs)
            cost = cost_of_inputs(vlm, inputs, plan, pairs=options.pairs, tokens=options.tokens)
            rows.append(row(vlm, plan, cost, by_hand))
            print(rows[-1], file=sys.stderr, flush=True)
    report(
        "skip: prefill, skipped over full",
        rows,
        as_json=options.json,
        pairs=options.pairs,
        batch_size=options.batch_size,
        interval="95 % of the median of paired ratios",
    )


if __name__ == "__main__":
    main()
