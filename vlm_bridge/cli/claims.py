"""`skipit claims`: the paper's claim, clause by clause, on one or several models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.cli.options import Epsilon
from vlm_bridge.cli.output import say
from vlm_bridge.data import TASKS
from vlm_bridge.experiments.claims import (
    ClaimsResult,
    ClaimsSettings,
    check_models,
    conclusions,
    write_page,
)
from vlm_bridge.experiments.rule_benchmark import Settings, Sizes
from vlm_bridge.experiments.scoring.truth import least_images
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.reference.shipped import shipped_models
from vlm_bridge.rules import RULES, find_rule
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, write_record
from vlm_bridge.runtime.machine import command_line


@dataclass(frozen=True)
class BenchmarkOptions:
    """How many images, and how it is done."""

    images: Annotated[
        int, typer.Option(min=1, help="Images that certify, and as many untouched ones.")
    ] = 72
    tuning: Annotated[int, typer.Option(min=1, help="Images that choose plans.")] = 24
    profiling: Annotated[int, typer.Option(min=1, help="Images a rule may look at.")] = 12
    null_images: Annotated[
        int, typer.Option(min=2, help="Images of each null (random weights, shuffled images).")
    ] = 8
    epsilon: Epsilon = Settings.epsilon
    delta: Annotated[float, typer.Option(help="Chance a promise may be wrong.")] = Settings.delta
    candidates: Annotated[
        int, typer.Option(min=2, help="Nested plans that a layer-wise rule puts forward.")
    ] = Settings.candidates
    resamples: Annotated[int, typer.Option(min=1, help="Of the certification images.")] = (
        Settings.resamples
    )
    pairs: Annotated[
        int, typer.Option(min=1, help="Timed pairs of full and skipped; 6 give an interval.")
    ] = Settings.pairs
    tokens: Annotated[
        int, typer.Option(help="Tokens to generate for the time per token; 0 leaves it out.")
    ] = 8
    batch_size: Annotated[int, typer.Option(min=1, help="Questions in a batch.")] = (
        Settings.batch_size
    )
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="Folder of finished work. That of `python -m benchmarks.rules` does: what it "
            "measured at equal sizes is not measured again."
        ),
    ] = Path("out/rules")


def claims(
    benchmark: BenchmarkOptions,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Model names, folders or 'toy', repeatable or joined by commas (default: all "
            "reference models that are shipped)."
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help=f"Task set: {' or '.join(TASKS)}; one question an image.")
    ] = "easy-vqa",
    modes: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Some of {', '.join(RULE_MODES)}, repeatable or joined by commas (default: all)."
        ),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            help="Rules to score, repeatable or joined by commas (default: all; see "
            "`skipit rules`)."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for claims.json, claims.md and the plots.")
    ] = Path("out/claims"),
) -> None:
    """Confirm or refute the paper's claim on trained models, clause by clause. Resumable.

    (i) Layers the framework calls redundant coincide with those that popular methods skip: the
    Jaccard index at equal size, against chance. (ii) Skipping them is faster: FLOPs counted and
    latency measured, in the prefill and per token. (iii) It is safe: a certified plan, on
    untouched images. (iv) Skipping others degrades: as many layers outside the conditions.

    Each is *supported*, *refuted* or *undecided* by criteria that claims.md states. It also
    holds accuracy beside blind and majority baselines, every rule's AUC, layers that show the two
    converses the theory refutes (found on one split, confirmed on another), and nulls: a copy with
    random weights and shuffled images.

    Killed at any time, the same command goes on from the checkpoint. The defaults are small: a unit
    can be told safe at epsilon 0.05 on 72 images at least, more decide more. All modes and rules
    of a 30-layer model still take an hour or more on two cores; `--modes freeze` and some `--rules`
    take minutes. `--models toy` has a planted truth.

    Example: `skipit claims --models toy --modes freeze --out out/toy`

    Example: `skipit claims --models reference,reference-all-linear --modes block,freeze`
    """
    check_writable(out / "claims.json")
    settings = ClaimsSettings(
        rules=tuple(find_rule(name) for name in _names(rules) or RULES),
        modes=tuple(_names(modes) or RULE_MODES),
        epsilon=benchmark.epsilon,
        delta=benchmark.delta,
        candidates=benchmark.candidates,
        resamples=benchmark.resamples,
        pairs=benchmark.pairs,
        batch_size=benchmark.batch_size,
        checkpoint=benchmark.checkpoint,
        null_images=benchmark.null_images,
        tokens=benchmark.tokens,
    )
    need = least_images(benchmark.epsilon)
    if benchmark.images < need and is_main():
        typer.echo(
            f"note: {benchmark.images} images cannot show that a unit is safe at epsilon "
            f"{benchmark.epsilon:g} (that takes {need}), so no AUC will be defined",
            err=True,
        )

    def tell(so_far: ClaimsResult) -> None:
        done = so_far.models[-1]
        for one in conclusions(done):
            say(f"{done.benchmark.model} {one}")
        if is_main():
            write_record(out / "claims.json", so_far)
            write_page(so_far, out / "claims.md", out, command=command_line())

    found = check_models(
        _names(models) or shipped_models(),
        data,
        Sizes(benchmark.images, benchmark.tuning, benchmark.profiling),
        settings,
        on_model=tell,
    )
    say(f"{len(found.models)} models: {out}/claims.json, {out}/claims.md")


def _names(given: list[str] | None) -> list[str]:
    """Names as they were given one by one or joined by commas.

    >>> _names(["a,b", "c"]), _names(None)
    (['a', 'b', 'c'], [])
    """
    return [name.strip() for words in given or () for name in words.split(",") if name.strip()]
