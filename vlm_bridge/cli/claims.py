"""`skipit claims`: docs/protocol.md run on one or several models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from typer import Argument, Option

from vlm_bridge.cli.options import Delta, Epsilon, MaxNewTokens, Pairs, Remote
from vlm_bridge.cli.output import say
from vlm_bridge.data import TASKS, Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims import (
    ClaimsResult,
    ClaimsSettings,
    Given,
    check_models,
    judge,
    load_claims_case,
    read_asked,
    read_places,
)
from vlm_bridge.experiments.claims.effort import effort_of
from vlm_bridge.experiments.claims.page import write_page
from vlm_bridge.model.vlm import load
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, write_record
from vlm_bridge.runtime.machine import command_line

_DEFAULT = ClaimsSettings()


@dataclass(frozen=True)
class ProtocolOptions:
    """Sizes and levels; the defaults are those of docs/protocol.md."""

    section: ClassVar[str] = "Protocol options (the defaults are registered)"
    profiling: Annotated[int, Option(min=1, help="Images that rules read.")] = _DEFAULT.profiling
    tuning: Annotated[
        int, Option(min=2, help="Images that choose plans, and decide whether a model enters.")
    ] = _DEFAULT.tuning
    certification: Annotated[int, Option(min=2, help="Images that certify.")] = (
        _DEFAULT.certification
    )
    test: Annotated[int, Option(min=2, help="Images that judge plans.")] = _DEFAULT.test
    ranked: Annotated[
        int, Option(min=2, help="First test images, on which every layer is skipped alone.")
    ] = _DEFAULT.ranked
    null_images: Annotated[
        int, Option(min=0, help="Images of each null; 0: none, and nothing can be supported.")
    ] = _DEFAULT.null_images
    draws: Annotated[int, Option(min=2, help="Random plans of equal size.")] = _DEFAULT.draws
    pairs: Pairs = _DEFAULT.pairs
    samples: Annotated[int, Option(min=1, help="Bootstrap samples of a test of ranks.")] = (
        _DEFAULT.samples
    )
    resamples: Annotated[
        int, Option(min=0, help="Resamplings of the promise that can fail; 0: none.")
    ] = _DEFAULT.resamples
    epsilon: Epsilon = _DEFAULT.epsilon
    delta: Delta = _DEFAULT.delta
    max_new_tokens: MaxNewTokens = _DEFAULT.max_new_tokens
    batch_size: Annotated[int, Option(min=1, help="Questions in a batch.")] = _DEFAULT.batch_size
    seed: Annotated[int, Option(min=0, help="Of random plans, nulls and resampling.")] = (
        _DEFAULT.seed
    )
    beside: Annotated[
        bool,
        Option(
            "--beside/--no-beside",
            help="Stability, calibration, false yes, and the promise that can fail.",
        ),
    ] = _DEFAULT.beside
    anyway: Annotated[
        bool,
        Option("--anyway", help="Measure a model that does not enter too; no verdict counts it."),
    ] = _DEFAULT.anyway


def claims(
    models: Annotated[
        list[str],
        Argument(metavar="MODEL...", help="Reference models, folders, Hugging Face ids, or 'toy'."),
    ],
    protocol: ProtocolOptions,
    data: Annotated[
        str,
        Option(
            help="JSONL file, whose images are dealt to the four splits in order; folder of "
            "profile.jsonl, tuning.jsonl, certification.jsonl, test.jsonl and perhaps train.jsonl; "
            f"or one of {', '.join(TASKS)}. 'toy' brings its own."
        ),
    ] = "",
    at: Annotated[
        list[str] | None,
        Option(
            metavar="SPLIT=PART:FIRST",
            help="Where a split begins, repeatable: test=test:400 leaves the first 400 test images "
            "out (default: each split at the first image of its part).",
        ),
    ] = None,
    name: Annotated[
        str, Option(help="Name of the model in verdicts; runs of one name are seeds of one model.")
    ] = "",
    other_task: Annotated[
        list[str] | None,
        Option(help="Other data, as --data, from which our ranking is made again; repeatable."),
    ] = None,
    dtype: Annotated[str, Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str | None, Option(help="A torch device, or 'auto' (default: CPU).")] = None,
    trust_remote_code: Remote = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say how many forward passes and hours it takes, and stop.")
    ] = False,
    checkpoint: Annotated[
        Path | None, Option(help="Folder of finished work (default: OUT/checkpoints).")
    ] = None,
    out: Annotated[Path, Option(help="Folder for results and figures.")] = Path("out/claims"),
) -> Any:
    """Run the registered protocol on trained models. Resumable.

    A model enters if it is right 15 points more often than a guess without the image, and if its
    harm is graded. Then every layer and depth is skipped alone in six modes, and whole answers are
    compared with the full model's. Our ranking, from one pass and its slopes, is tested against
    harm and against ShortV and ShortGPT, given depth. Our certified plan is tested against random
    plans of its size, the deepest plan, a copy with random weights and shuffled images, and timed.

    Every clause is supported, refuted or undecided, after Holm's correction over all tests of all
    models in the result; `python -m benchmarks.claims` joins results and corrects again. With the
    registered sizes a model of 30 layers takes hours on a CPU: --dry-run says how many. A killed
    run continues when the same command is given again.

    Example: `skipit claims toy --profiling 4 --tuning 12 --certification 24 --test 24 --ranked 16
    --null-images 6 --draws 4 --pairs 6 --epsilon 0.2 --anyway --out out/toy`

    Example: `skipit claims photos-smollm2 --data fashion-photos --at test=test:400
    --at certification=certification:440 --at tuning=certification:340
    --at profiling=certification:300 --dry-run`
    """
    if not data and any(model != "toy" for model in models):
        raise BridgeError("name the questions with --data; only 'toy' brings its own")
    if name and len(models) > 1:
        raise BridgeError(f"--name is of one model, got {len(models)}; run them one by one")
    places = read_places(at or [])
    values = {field.name: getattr(protocol, field.name) for field in fields(protocol)}
    settings = ClaimsSettings(**values, checkpoint=checkpoint or out / "checkpoints")
    loading = partial(load, dtype=dtype, device=device, trust_remote_code=trust_remote_code)

    def given(model: str) -> Given:
        case, every = load_claims_case(model, data, settings, places, loading)
        return Given(case, every, name, _others(other_task or [], settings))

    if dry_run:
        efforts = {model: effort_of(given(model).case, settings) for model in models}
        for model, effort in efforts.items():
            say(f"{model}: {effort.sentence()}")
        return {model: effort.to_json() for model, effort in efforts.items()}
    check_writable(out / "claims.json")

    def write(so_far: ClaimsResult) -> None:
        latest = so_far.models[-1]
        enters = "enters" if latest.entry.enters else "is left out of every verdict"
        say(f"{latest.name} {enters}: {latest.entry.reason}")
        if is_main():
            write_record(out / "claims.json", so_far)
            write_page(so_far, out / "claims.md", out, command=command_line())

    result = check_models(models, given, settings, on_model=write)
    for verdict in judge(result.models):
        say(f"{verdict.model} {verdict.clause}: {verdict.verdict}; {'; '.join(verdict.reasons)}")
    say(f"{len(result.models)} runs: {out}/claims.json, {out}/claims.md, {out}/claims.html")
    return result.to_json() if is_main() else None


def _others(names: list[str], settings: ClaimsSettings) -> Mapping[str, tuple[Item, ...]]:
    """Profiling questions of other data."""
    return {name: read_asked(name, settings).splits.profiling for name in names}
