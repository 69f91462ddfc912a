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
        list[str] | None,
        Option(help=f"Part that a skip removes, repeatable: {', '.join(KINDS)} (default: all)."),
    ] = None,
    differences: Annotated[bool, Option(help="Also check slopes by finite differences.")] = True,
    bound: Annotated[bool, Option(help="Also measure gains of layers, for the S6 bound.")] = True,
    tokens: Annotated[
        int,
        Option(help="Likeliest first answer tokens whose logits are followed, at least 2."),
    ] = TOKENS,
) -> Any:
    """Measure how sensitive the answer is to each layer's update. Resumable.

    A slope is a directional derivative: that of the logits of the first answer token along the
    part d of a layer's update that a skip removes. It is taken by forward-mode differentiation of
    the full model; no skipped model is run. --kind block removes the update of all tokens, freeze
    that of the vision tokens; unseen keeps the text tokens of the layer from attending to vision.

    Columns, means over images: |d|, length of that part (l2 over all tokens); |dz|, largest logit
    change to first order; slope, |dz| / |d|; KL, divergence of the changed answer distribution
    (nats); flips, share of questions whose likeliest answer changes; jvp-fd, relative difference
    between dz and finite differences; S6 bound, bound on |dz| of statement S6 (docs/statements.md)
    with measured local gains, no theorem on a real network; looseness, S6 bound / |dz|. A dash:
    not measured, or no change.

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
