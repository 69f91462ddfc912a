"""`skipit confirm`: the paper's claim, clause by clause, on one or several models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.cli.options import Epsilon
from vlm_bridge.cli.output import say
from vlm_bridge.data import TASKS
from vlm_bridge.experiments.claims import (
    Confirmation,
    conclusions,
    write_confirmation,
    write_page,
)
from vlm_bridge.experiments.claims import confirm as run_confirm
from vlm_bridge.experiments.rule_benchmark import Settings, Sizes
from vlm_bridge.experiments.scoring.truth import least_images
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.reference.shipped import shipped_models
from vlm_bridge.rules import RULES, find_rule
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable
from vlm_bridge.runtime.machine import command_line


@dataclass(frozen=True)
class StudyOptions:
    """How many images, and how it is done."""

    images: Annotated[
        int, typer.Option(min=1, help="Images that certify, and as many untouched ones.")
    ] = 72
    tuning: Annotated[int, typer.Option(min=1, help="Images that choose plans.")] = 24
    seen: Annotated[int, typer.Option(min=1, help="Images a rule may look at.")] = 12
    nulls: Annotated[
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
    batch: Annotated[int, typer.Option(min=1, help="Questions in a batch.")] = Settings.size
    journal: Annotated[
        Path,
        typer.Option(
            help="Folder of finished work. That of `python -m benchmarks.rules` does: what it "
            "measured at equal sizes is not measured again."
        ),
    ] = Path("out/rules")


def confirm(
    study: StudyOptions,
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
            help="Rules to study, repeatable or joined by commas (default: all; see "
            "`skipit rules`)."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for confirm.json, confirm.md and the plots.")
    ] = Path("out/confirm"),
) -> None:
    """Confirm or refute the paper's claim on trained models, clause by clause. Resumable.

    (i) Layers the framework calls redundant coincide with those that popular methods skip: the
    Jaccard index at equal size, against chance. (ii) Skipping them is faster: FLOPs counted and
    latency measured, in the prefill and per token. (iii) It is safe: a certified plan, on
    untouched images. (iv) Skipping others degrades: as many layers outside the conditions.

    Each is *supported*, *refuted* or *undecided* by criteria that confirm.md states. It also
    holds accuracy beside blind and majority baselines, every rule's AUC, layers that show the two
    converses the theory refutes (found on one split, confirmed on another), and nulls: a copy with
    random weights and shuffled images.

    Killed at any time, the same command goes on from the journal. The defaults are small: a unit
    can be told safe at epsilon 0.05 on 72 images at least, more decide more. All modes and rules
    of a 30-layer model still take an hour or more on two cores; `--modes freeze` and some `--rules`
    take minutes. `--models toy` has a planted truth.

    Example: `skipit confirm --models toy --modes freeze --out out/toy`

    Example: `skipit confirm --models reference,reference-all-linear --modes block,freeze`
    """
    check_writable(out / "confirm.json")
    settings = Settings(
        epsilon=study.epsilon,
        delta=study.delta,
        candidates=study.candidates,
        resamples=study.resamples,
        pairs=study.pairs,
        size=study.batch,
    )
    need = least_images(study.epsilon)
    if study.images < need and is_main():
        typer.echo(
            f"note: on {study.images} images no unit can be told safe at epsilon {study.epsilon:g} "
            f"(that takes {need}), so no AUC will be defined",
            err=True,
        )

    def tell(so_far: Confirmation) -> None:
        done = so_far.models[-1]
        for one in conclusions(done):
            say(f"{done.study.model} {one}")
        if is_main():
            write_confirmation(out / "confirm.json", so_far)
            write_page(so_far, out / "confirm.md", out, command=command_line())

    found = run_confirm(
        _names(models) or shipped_models(),
        data=data,
        sizes=Sizes(study.images, study.tuning, study.seen),
        rules=[find_rule(name) for name in _names(rules) or RULES],
        modes=_names(modes) or RULE_MODES,
        settings=settings,
        folder=study.journal,
        null_images=study.nulls,
        tokens=study.tokens,
        told=tell,
    )
    say(f"{len(found.models)} models: {out}/confirm.json, {out}/confirm.md")


def _names(given: list[str] | None) -> list[str]:
    """Names as they were given one by one or joined by commas.

    >>> _names(["a,b", "c"]), _names(None)
    (['a', 'b', 'c'], [])
    """
    return [name.strip() for words in given or () for name in words.split(",") if name.strip()]
