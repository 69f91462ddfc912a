"""`skipit slopes`: what a small step along each layer's update does to the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.cli.options import DataOptions, ModelOptions
from vlm_bridge.cli.output import resumable, save, say
from vlm_bridge.rules.measure.slope_table import SlopeRow
from vlm_bridge.rules.measure.slopes import TOKENS, measure_slopes
from vlm_bridge.rules.measure.suffix import KINDS

_HEAD = ("layer", "kind", "|d|", "|dz|", "slope", "KL", "flips", "jvp-fd", "S6 bound", "looseness")


def slopes(
    model: ModelOptions,
    data: DataOptions,
    out: Annotated[Path, typer.Option(help="Slopes to write (JSON).")] = Path("out/slopes.json"),
    kind: Annotated[
        list[str] | None,
        typer.Option(help=f"Only along these, repeatable (of {', '.join(KINDS)}; default: all)."),
    ] = None,
    differences: Annotated[
        bool, typer.Option(help="Also measure every slope by finite differences.")
    ] = True,
    bound: Annotated[
        bool, typer.Option(help="Also measure the gain of every layer, for the S6 bound.")
    ] = True,
    tokens: Annotated[
        int, typer.Option(help="Answers followed, the likeliest of each question.")
    ] = TOKENS,
) -> None:
    """How much does the answer feel what each layer does? Forward-mode slopes, S6 bound. Resumable.

    No skipped model is run. Columns: |d| length of what a skip takes away (l2 over all tokens);
    |dz| the largest logit change to first order, and by unit of length; KL and share of changed
    answers that follow; relative difference to finite differences; the bound of statement S6
    from measured local gains (on a real network an estimate, no theorem) and how many times
    too large it is. A dash: not measured, or nothing changed.

    Example: `skipit slopes reference --data easy-vqa:tuning --per-image 1 --limit 8`
    """
    items = data.items()
    vlm = model.load()
    with resumable(out) as checkpoint:
        found = measure_slopes(
            vlm,
            items,
            kinds=kind or KINDS,
            differences=differences,
            bound=bound,
            tokens=tokens,
            batch_size=data.batch_size,
            checkpoint=checkpoint,
        )
    save(out, found.to_json())
    say("\t".join(_HEAD))
    for row in found.rows():
        say(_line(row))
    cost = ", ".join(
        f"{name} {forward_cost:.1f}" for name, forward_cost in found.forward_cost.items()
    )
    say(f"attention: {found.attention}")
    say(f"forward-pass equivalents: {cost}; sum {sum(found.forward_cost.values()):.1f}")
    say(f"slopes of {found.n_layers} layers on {len(set(found.clusters))} images: {out}")


def _line(row: SlopeRow) -> str:
    numbers = (row.length, row.change, row.slope, row.kl, row.flips)
    measured = (row.difference, row.bound, row.looseness)
    words = ["-" if value != value else f"{value:.3g}" for value in (*numbers, *measured)]
    return "\t".join([str(row.layer), row.kind, *words])
