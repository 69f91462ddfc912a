"""Commands about a model and what a plan does to its cost: describe, cost, prune."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.cli.options import Model, ModelOptions, PlanWords, Remote
from vlm_bridge.cli.output import save, say
from vlm_bridge.cost import Cost, measure_cost
from vlm_bridge.data import noise_items, read_jsonl
from vlm_bridge.model.vlm import load_meta
from vlm_bridge.plan.text import read_plan
from vlm_bridge.runtime.files import check_writable
from vlm_bridge.skip.describe import describe as run_describe
from vlm_bridge.skip.export import prune as run_prune


def describe(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False,
    trust_remote_code: Remote = False,
) -> None:
    """Layout, token groups, attention types and supported ways to skip. Reads no weights.

    Example: `skipit describe reference`
    """
    found = run_describe(load_meta(model, trust_remote_code=trust_remote_code))
    typer.echo(json.dumps(found.to_json(), indent=1) if as_json else str(found))


def cost(
    model: ModelOptions,
    plan: PlanWords,
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL of questions to time (default: about images of noise)."),
    ] = None,
    side: Annotated[int, typer.Option(min=8, help="Pixels of a side of a noise image.")] = 336,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences in the timed batch.")] = 16,
    pairs: Annotated[
        int, typer.Option(min=1, help="Timed pairs of full and skipped; 6 give an interval.")
    ] = 15,
    tokens: Annotated[
        int, typer.Option(help="Tokens to generate for the time per token; 0 leaves it out.")
    ] = 8,
    out: Annotated[Path, typer.Option(help="Cost to write (JSON).")] = Path("out/cost.json"),
) -> None:
    """FLOPs counted, latency measured beside the full model, peak memory and cache bytes.

    Full and skipped run in turn, after two warm-up runs of each; ratios are skipped/full.

    Example: `skipit cost reference "early_exit exit=26"`
    """
    check_writable(out)
    planned = read_plan(plan)
    vlm = model.load()
    read = planned(vlm.layout.n_layers)
    with tempfile.TemporaryDirectory() as folder:
        items = read_jsonl(data) if data else noise_items(Path(folder), batch_size, side=side)
        found = measure_cost(vlm, items, read, batch_size=batch_size, pairs=pairs, tokens=tokens)
    save(out, {"plan": read.to_json(), "model": vlm.name, "cost": found.to_json()})
    say(read.describe())
    for line in cost_lines(found):
        say(line)
    say(f"cost: {out}")


def cost_lines(cost: Cost) -> list[str]:
    """A cost for people, a line a quantity.

    >>> cost_lines(measured)[0]  # doctest: +SKIP
    'prefill   FLOPs 72.4 -> 36.1 GFLOP (0.50)   latency 481 -> 311 ms (0.63, 0.61 to 0.70)'
    """
    lines = []
    for name, phase in (("prefill", cost.prefill), ("per token", cost.decode)):
        if phase is None:
            continue
        low, high = phase.latency_ratio.interval
        lines.append(
            f"{name:<10}FLOPs {phase.flops_full / 1e9:.3g} -> {phase.flops_skipped / 1e9:.3g} "
            f"GFLOP ({phase.flops_ratio:.2f})   latency {phase.seconds_full * 1e3:.3g} -> "
            f"{phase.seconds_skipped * 1e3:.3g} ms "
            f"({phase.latency_ratio.value:.2f}, {low:.2f} to {high:.2f})"
        )
    for name, full, skipped, ratio in (
        ("KV cache", cost.kv_bytes_full, cost.kv_bytes_skipped, cost.kv_ratio),
        ("peak", cost.peak_bytes_full, cost.peak_bytes_skipped, cost.peak_ratio),
    ):
        lines.append(f"{name:<10}{full / 1e6:.3g} -> {skipped / 1e6:.3g} MB ({ratio:.2f})")
    lines.append(f"{cost.batch_size} x {cost.length} tokens, {cost.dtype}, {cost.device}")
    return lines


def prune(
    model: ModelOptions,
    plan: PlanWords,
    out: Annotated[Path, typer.Option(help="Folder of the smaller model, new or empty.")] = Path(
        "out/pruned"
    ),
) -> None:
    """Export a `block` plan as a smaller model that loads and generates without this package.

    Example: `skipit prune reference "block layers=11,20" --out out/smaller`
    """
    planned = read_plan(plan)
    vlm = model.load()
    folder = run_prune(vlm, planned(vlm.layout.n_layers), out)
    say(f"{folder}: loads with transformers' from_pretrained")
