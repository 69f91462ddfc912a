"""`skipit claims`: the clauses of the paper's claim, tested on one or several models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer import Option

from vlm_bridge.cli.options import Delta, Epsilon, Pairs, Tokens
from vlm_bridge.cli.output import say
from vlm_bridge.data import TASKS
from vlm_bridge.experiments.claims import ClaimsResult, ClaimsSettings, check_models, write_page
from vlm_bridge.experiments.claims.conclusions import conclusions
from vlm_bridge.experiments.rule_benchmark import Settings, Sizes
from vlm_bridge.experiments.scoring.truth import least_images
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.reference.shipped import complete_models
from vlm_bridge.rules import RULES, find_rule
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, write_record
from vlm_bridge.runtime.machine import command_line


@dataclass(frozen=True)
class BenchmarkOptions:
    """Sizes and settings of the experiment."""

    section: ClassVar[str] = "Experiment options"
    images: Annotated[int, Option(min=1, help="Images to certify on, and images to test on.")] = 72
    tuning: Annotated[int, Option(min=1, help="Images that choose the plans.")] = 24
    profiling: Annotated[int, Option(min=1, help="Images that the rules read.")] = 12
    null_images: Annotated[
        int, Option(min=2, help="Images of each null model (random weights, shuffled images).")
    ] = 8
    epsilon: Epsilon = Settings.epsilon
    delta: Delta = Settings.delta
    candidates: Annotated[int, Option(min=2, help="Nested plans of each rule.")] = (
        Settings.candidates
    )
    resamples: Annotated[int, Option(min=1, help="Resamples of certification images.")] = (
        Settings.resamples
    )
    pairs: Pairs = Settings.pairs
    draws: Annotated[
        int, Option(min=0, help="Random plans of the size of each certified plan; 0: none.")
    ] = Settings.draws
    bands: Annotated[
        int,
        Option(min=0, help="Bands of layers in which text is made blind to the image; 0: none."),
    ] = Settings.bands
    tokens: Tokens = 8
    batch_size: Annotated[int, Option(min=1, help="Questions in a batch.")] = Settings.batch_size
    checkpoint: Annotated[
        Path,
        Option(
            help="Folder of finished work. That of `python -m benchmarks.rules` can be used: its "
            "measurements of equal size are not repeated."
        ),
    ] = Path("out/rules")


def claims(
    benchmark: BenchmarkOptions,
    models: Annotated[
        list[str] | None,
        Option(
            help="Model names, folders or 'toy', repeatable or comma-separated (default: the "
            "reference models that need nothing fetched)."
        ),
    ] = None,
    data: Annotated[
        str, Option(help=f"Task set: {' or '.join(TASKS)}; one question per image.")
    ] = "easy-vqa",
    modes: Annotated[
        list[str] | None,
        Option(help=f"Repeatable or comma-separated: {', '.join(RULE_MODES)} (default: all)."),
    ] = None,
    rules: Annotated[
        list[str] | None,
        Option(help="Rules to test, repeatable or comma-separated (`skipit rules`; default: all)."),
    ] = None,
    out: Annotated[Path, Option(help="Folder for results and plots.")] = Path("out/claims"),
) -> Any:
    """Test the clauses of the paper's claim on trained models. Resumable.

    (i) The layers that the framework calls redundant are those that published methods skip:
    Jaccard index of sets of equal size, against chance. (ii) Skipping them is faster: FLOPs
    counted and latency measured, in the prefill and per token. (iii) It is safe: a certified plan
    on test images. (iv) Skipping as many layers outside the conditions degrades the answers.

    Each clause is *supported*, *refuted* or *undecided* by criteria that claims.md states. The
    result also holds accuracy beside blind and majority baselines, the AUC of every rule, layers
    that show the two converses refuted by the theory (selected on one split, confirmed on another),
    and two null models: a copy with random weights, and the model on shuffled images.

    A killed run continues from its checkpoint when the same command is given again. The defaults
    are small: with fewer than 72 images no unit can be shown safe at epsilon 0.05, and more images
    leave fewer clauses undecided. All modes and rules of a 30-layer model take an hour or more on
    two cores; `--modes freeze` and a few `--rules` take minutes. `--models toy` has planted safe
    layers.

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
        draws=benchmark.draws,
        bands=benchmark.bands,
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

    def write(so_far: ClaimsResult) -> None:
        latest = so_far.models[-1]
        for conclusion in conclusions(latest):
            say(f"{latest.benchmark.model} {conclusion}")
        if is_main():
            write_record(out / "claims.json", so_far)
            write_page(so_far, out / "claims.md", out, command=command_line())

    result = check_models(
        _names(models) or complete_models(),
        data,
        Sizes(benchmark.images, benchmark.tuning, benchmark.profiling),
        settings,
        on_model=write,
    )
    say(f"{len(result.models)} models: {out}/claims.json, {out}/claims.md")
    return result.to_json() if is_main() else None


def _names(values: list[str] | None) -> list[str]:
    """The names in the values of a repeatable option, each a comma-separated list.

    >>> _names(["a,b", "c"]), _names(None)
    (['a', 'b', 'c'], [])
    """
    return [name.strip() for value in values or () for name in value.split(",") if name.strip()]
