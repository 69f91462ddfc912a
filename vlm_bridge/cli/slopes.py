"""`skipit slopes`: how a small step along the update of each layer changes the answer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from vlm_bridge.cli.options import DataOptions, ModelOptions
from vlm_bridge.cli.output import resumable, save, say
from vlm_bridge.rules.measure.slope_table import SlopeRow
from vlm_bridge.rules.measure.slopes import TOKENS, measure_slopes
from vlm_bridge.rules.measure.suffix import KINDS

_HEAD = ("layer", "kind", "|d|", "|dz|", "slope", "KL", "flips", "jvp-fd", "S6 bound", "looseness")


def slopes(
    model: ModelOptions,
    data: DataOptions,
    out: Annotated[Path, Option(help="Slopes to write (JSON).")] = Path("out/slopes.json"),
    kind: Annotated[
        list[str] | None, Option(help=f"Repeatable: {', '.join(KINDS)} (default: all).")
    ] = None,
    differences: Annotated[bool, Option(help="Also check slopes by finite differences.")] = True,
    bound: Annotated[bool, Option(help="Also measure gains of layers, for the S6 bound.")] = True,
    tokens: Annotated[int, Option(help="Likeliest answer tokens to measure.")] = TOKENS,
) -> Any:
    """Measure how sensitive the answer is to each layer's update. Resumable.

    Forward-mode derivatives of the full model; no skipped model is run. Columns: |d| length of the
    part that a skip removes (l2 over all tokens); |dz| largest logit change to first order; slope
    |dz| / |d|; KL and share of changed answers that follow; relative difference to finite
    differences; bound of statement S6 from measured local gains (an estimate on a real network, no
    theorem), and its ratio to |dz|. A dash: not measured, or no change.

    Example: `skipit slopes reference --data easy-vqa:tuning --per-image 1 --limit 8`
    """
    items = data.items()
    vlm = model.load()
    with resumable(out) as checkpoint:
        measured = measure_slopes(
            vlm,
            items,
            kinds=kind or KINDS,
            differences=differences,
            bound=bound,
            tokens=tokens,
            batch_size=data.batch_size,
            checkpoint=checkpoint,
        )
    result = save(out, measured.to_json())
    say("\t".join(_HEAD))
    for row in measured.rows():
        say(_line(row))
    cost = ", ".join(f"{name} {passes:.1f}" for name, passes in measured.forward_cost.items())
    say(f"attention: {measured.attention}")
    say(f"forward-pass equivalents: {cost}; sum {sum(measured.forward_cost.values()):.1f}")
    say(f"slopes of {measured.n_layers} layers on {len(set(measured.clusters))} images: {out}")
    return result


def _line(row: SlopeRow) -> str:
    numbers = (row.length, row.change, row.slope, row.kl, row.flips)
    checks = (row.difference, row.bound, row.looseness)
    cells = ["-" if math.isnan(value) else f"{value:.3g}" for value in (*numbers, *checks)]
    return "\t".join([str(row.layer), row.kind, *cells])
