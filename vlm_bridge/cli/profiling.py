"""`skipit profile`: the profile of a model, or of the hidden states of any network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from typer import Argument, Option

from estimators import Profile, profile_states
from vlm_bridge.cli.options import DataOptions, ModelOptions, StackName
from vlm_bridge.cli.output import resumable, save, say
from vlm_bridge.cli.tables import profile_lines
from vlm_bridge.data import TASKS, Item, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.figures.layers import plot_profile
from vlm_bridge.figures.states import plot_states
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import profile as run_profile
from vlm_bridge.observe.profile import random_copy
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.observe.states_file import StatesFile, is_states_file
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable
from vlm_bridge.runtime.progress import track


@dataclass(frozen=True)
class ProfiledModel(ModelOptions):
    """A model, or a file of hidden states."""

    model: Annotated[
        str,
        Argument(
            help="'reference', a model folder, a Hugging Face id (owner/name), or a file of hidden "
            "states of any network (.safetensors, .npz)."
        ),
    ]


@dataclass(frozen=True)
class ProfiledData(DataOptions):
    """Questions for the model; a file of states takes none."""

    data: Annotated[
        str,
        Option(
            help="JSONL of {image?, audio?, question, answer?, answers?, cluster?} or of another "
            "shape in docs/data.md, or NAME:SPLIT with NAME "
            f"one of {', '.join(TASKS)}; required with a model, refused with a file of states."
        ),
    ] = ""


@dataclass(frozen=True)
class StatesOptions:
    """Arrays of a file of states that are not states."""

    section: ClassVar[str] = "Options for a file of states"
    target: Annotated[str | None, Option(help="Array of targets (default: 'target').")] = None
    clusters: Annotated[str | None, Option(help="Array of image labels (default: 'clusters').")] = (
        None
    )
    last_token: Annotated[bool, Option("--last-token", help="Also profile the last tokens.")] = (
        False
    )


def profile(
    model: ProfiledModel,
    data: ProfiledData,
    states: StatesOptions,
    out: Annotated[Path, Option(help="Profile to write (JSON).")] = Path("out/profile.json"),
    null: Annotated[
        bool, Option(help="Profile a copy with random weights too, into OUT's -null.json.")
    ] = True,
    reservoir: Annotated[
        int, Option(min=0, help="Tokens of each token group to store beside OUT.")
    ] = 0,
    reservoir_width: Annotated[
        int | None, Option(min=1, help="Width to project stored states to (default: none).")
    ] = None,
    stack: StackName = DECODER,
) -> Any:
    """Measure how redundant each layer is, without labels. Resumable.

    One forward pass over the questions, with results for each token group. Prints cosine distance
    and VAR (attention of text to modality tokens) by layer; the figure shows more. Beside them
    stand those of a copy with random weights: a distance that the copy has too is no evidence of
    redundancy. `torchrun` distributes the batches over its processes.

    A file of hidden states of any network is profiled without a copy. It has one array of shape
    (rows, width) or (sequences, tokens, width) for each layer, named as hook libraries name them,
    or one array of all layers. The arrays `target`, `clusters` and `groups.NAME` (boolean masks)
    are optional.

    Example: `skipit profile reference --data easy-vqa:profile --out out/profile.json`

    Example: `skipit profile states.safetensors --target answer --out out/profile.json`
    """
    if is_states_file(model.model):
        if data.data:
            raise BridgeError("--data goes with a model; a file of states needs no questions")
        return _profile_file(Path(model.model), states, out)
    if not data.data:
        raise BridgeError(
            "a model is profiled on questions: give --data, a JSONL file or NAME:SPLIT"
        )
    if states != StatesOptions():
        raise BridgeError("--target, --clusters and --last-token go with a file of states")
    items = data.items()
    vlm = model.load()
    sample = Reservoir(reservoir, width=reservoir_width) if reservoir else None
    size = data.batch_size
    picture = out.with_suffix(".png")
    with resumable(out, ".safetensors") as file:
        measured = run_profile(
            vlm, items, batch_size=size, checkpoint=file, reservoir=sample, stack=stack
        )
        result = save(out, measured.to_json())
        if sample is not None and is_main():
            sample.samples.save(out.with_name(f"{out.stem}-states"))
        random = _null(vlm, items, size, out, stack) if null else None
        if is_main():
            whole = SkipPlan("block", measured.n_layers, stack=stack)
            plot_profile(picture, measured, random, whole)
    for line in profile_lines(measured, random):
        say(line)
    of = f"{measured.n_images} {unit_word(items, measured.n_images)}"
    say(f"profile of {measured.n_layers} layers on {of}: {out}, {picture}")
    return result


def _null(vlm: VLM, items: Sequence[Item], size: int, out: Path, stack: str) -> Profile:
    """Profile and save a copy of the model with random weights."""
    out = out.with_name(f"{out.stem}-null.json")
    with resumable(out, ".safetensors") as file:
        copy = random_copy(vlm)
        random = run_profile(copy, items, batch_size=size, checkpoint=file, stack=stack)
        save(out, random.to_json())
    return random


def _profile_file(path: Path, options: StatesOptions, out: Path) -> Any:
    """Profile the states in a file, with a figure."""
    check_writable(out)
    file = StatesFile.read(path, target=options.target, clusters=options.clusters)
    with track("profile of layers", len(file.states) - 1) as advance:
        try:
            measured = profile_states(
                file.states,
                file.target,
                token_groups=file.token_groups,
                clusters=file.clusters,
                last_token=options.last_token,
                model=path.name,
                progress=lambda done, total: advance(1),
            )
        except ValueError as error:
            raise BridgeError(f"{path}: {error}") from None
    result = save(out, measured.to_json())
    picture = plot_states(out.with_suffix(".png"), measured)
    for line in profile_lines(measured, None):
        say(line)
    say(f"profile of {measured.n_layers} layers on {measured.n_images} clusters: {out}, {picture}")
    return result
