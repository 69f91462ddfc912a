"""The path: profile, plan, certify; and what measures a plan: compare, sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from estimators import Profile, profile_states
from theory.certificates import METHODS
from vlm_bridge.cli.options import DataOptions, Epsilon, ModelOptions, PlanWords
from vlm_bridge.cli.output import resumable, save, say
from vlm_bridge.cli.rule_options import RuleMode, RuleName, explained
from vlm_bridge.cost import measure_cost
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.certify import certify_both
from vlm_bridge.evaluate.compare import compare as run_compare
from vlm_bridge.evaluate.sweep import SWEPT, sweep_plans
from vlm_bridge.evaluate.sweep import sweep as run_sweep
from vlm_bridge.figures.layers import plot_depth, plot_layers, plot_profile
from vlm_bridge.figures.states import plot_states
from vlm_bridge.observe.profile import profile as run_profile
from vlm_bridge.observe.profile import random_copy
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.observe.states_file import StatesFile, is_states_file
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.text import read_plan
from vlm_bridge.rules import Evidence, SkipItSlopes, check_mode, find_rule
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, read_json
from vlm_bridge.runtime.progress import track
from vlm_bridge.selection.choose import choose_plan


@dataclass(frozen=True)
class Profiled(ModelOptions):
    """A model, or the states of any network."""

    model: Annotated[
        str,
        typer.Argument(
            help="'reference', a model folder, a Hugging Face id (owner/name), or a file of hidden "
            "states of any network (.safetensors, .npz)."
        ),
    ]


@dataclass(frozen=True)
class ProfiledData(DataOptions):
    """Questions, which a file of states does without."""

    data: Annotated[
        str,
        typer.Option(
            help="A JSONL file of {image, question, answer?, cluster?}, or easy-vqa:SPLIT; not "
            "with a file of states."
        ),
    ] = ""


@dataclass(frozen=True)
class StatesOptions:
    """What in a file of states is no state."""

    target: Annotated[
        str | None,
        typer.Option(help="States: array of what they should tell (default: 'target', if there)."),
    ] = None
    clusters: Annotated[
        str | None,
        typer.Option(help="States: array of image labels (default: 'clusters', if there)."),
    ] = None
    last_token: Annotated[
        bool, typer.Option(help="States: also profile the last token of every sequence.")
    ] = False


def profile(
    model: Profiled,
    data: ProfiledData,
    states: StatesOptions,
    out: Annotated[Path, typer.Option(help="Profile to write (JSON).")] = Path("out/profile.json"),
    null: Annotated[
        bool, typer.Option(help="Also profile a randomly initialised copy, into OUT's -null.json.")
    ] = True,
    reservoir: Annotated[
        int, typer.Option(min=0, help="Keep the states of so many tokens a group, in OUT's folder.")
    ] = 0,
    reservoir_width: Annotated[
        int | None, typer.Option(min=1, help="Project kept states to this width (default: whole).")
    ] = None,
) -> None:
    """How redundant is each layer, for which tokens? One forward pass, no labels. Resumable.

    Draws the profile beside that of a copy with random weights: a distance the copy shows too
    says nothing. Under `torchrun` the batches are dealt out to the processes.

    A file of hidden states of any network is profiled alike, without a copy: one array of shape
    (rows, width) or (sequences, tokens, width) per layer, named as hook libraries name them, or
    one array of all layers. Arrays `target`, `clusters` and `groups.NAME` (boolean masks) beside
    them are what their names say.

    Example: `skipit profile reference --data easy-vqa:profile --out out/profile.json`

    Example: `skipit profile states.safetensors --target answer --out out/profile.json`
    """
    if is_states_file(model.model):
        if data.data:
            raise BridgeError("--data goes with a model; a file of states holds all there is")
        _profile_file(Path(model.model), states, out)
        return
    if not data.data:
        raise BridgeError("a model is profiled on questions: give --data, JSONL or easy-vqa:SPLIT")
    if states != StatesOptions():
        raise BridgeError("--target, --clusters and --last-token go with a file of states")
    items = data.items()
    vlm = model.load()
    sample = Reservoir(reservoir, width=reservoir_width) if reservoir else None
    with resumable(out, ".safetensors") as checkpoint:
        found = run_profile(
            vlm, items, batch_size=data.batch_size, checkpoint=checkpoint, reservoir=sample
        )
    save(out, found.to_json())
    if sample is not None and is_main():
        sample.samples.save(out.with_name(f"{out.stem}-states"))
    random = None
    if null:
        null_out = out.with_name(f"{out.stem}-null.json")
        with resumable(null_out, ".safetensors") as checkpoint:
            random = run_profile(
                random_copy(vlm), items, batch_size=data.batch_size, checkpoint=checkpoint
            )
        save(null_out, random.to_json())
    picture = out.with_suffix(".png")
    if is_main():
        plot_profile(picture, found, random, SkipPlan("freeze", found.n_layers))
    say(f"profile of {found.n_layers} layers on {found.n_images} images: {out}, {picture}")


def _profile_file(path: Path, states: StatesOptions, out: Path) -> None:
    """Profile the states in a file, with a figure."""
    check_writable(out)
    given = StatesFile.read(path, target=states.target, clusters=states.clusters)
    with track("profile of layers", len(given.states) - 1) as advance:
        try:
            found = profile_states(
                given.states,
                given.target,
                token_groups=given.groups,
                clusters=given.clusters,
                last_token=states.last_token,
                model=path.name,
                progress=lambda done, total: advance(1),
            )
        except ValueError as error:
            raise BridgeError(f"{path}: {error}") from None
    save(out, found.to_json())
    picture = plot_states(out.with_suffix(".png"), found)
    say(f"profile of {found.n_layers} layers on {found.n_images} clusters: {out}, {picture}")


def plan(
    model: ModelOptions,
    data: DataOptions,
    profile: Annotated[Path, typer.Option(help="As `skipit profile` writes it.")] = Path(
        "out/profile.json"
    ),
    rule: RuleName = "skip-it",
    mode: RuleMode = None,
    epsilon: Epsilon = 0.02,
    forward_cost: Annotated[
        float | None,
        typer.Option(
            help="What the rule may cost, in forward passes over the images: a dearer one sees "
            "fewer of them (default: whatever it takes)."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            help="Also print what every condition says about every unit (skip-it-slopes)."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Plan to write (JSON).")] = Path("out/plan.json"),
) -> None:
    """The largest plan of a rule that changes at most epsilon/2 of the answers.

    `skipit rules` says what each rule reads; none but gm-skip sees a label. Prints what the rule
    cost in forward passes over the images. Use other images than those that will certify.

    --explain adds a table, a line for each unit: the score, then S6 share of answers that may
    change, S7 KL (nats), G-F and P-F distances, S14 usable and S9 unique + synergistic information
    about the model's own answer (nats), S8 change of a head. A star: not safe by that condition.

    Example: `skipit plan reference --data easy-vqa:tuning --profile out/profile.json`
    """
    check_writable(out)
    items = data.items()
    try:
        found = Profile.from_json(read_json(profile, "profile"))
    except (ValueError, KeyError, TypeError) as error:
        raise BridgeError(f"{profile} is not a profile: {error}") from None
    found_rule = find_rule(rule)
    if explain and not isinstance(found_rule, SkipItSlopes):
        raise BridgeError(f"rule '{rule}' has no conditions to explain; skip-it-slopes has")
    vlm = model.load()
    evidence = Evidence(vlm, items, found, batch_size=data.batch_size)
    chosen = choose_plan(
        vlm,
        found,
        items,
        rule=rule,
        mode=mode,
        epsilon=epsilon,
        batch_size=data.batch_size,
        evidence=evidence,
        forward_cost=forward_cost,
    )
    save(out, chosen.to_json())
    cost = chosen.source["forward_cost"]
    if explain and isinstance(found_rule, SkipItSlopes):
        for line in explained(found_rule, evidence, check_mode(found_rule, mode), epsilon):
            say(line)
        spent = ", ".join(f"{name} {count:.1f}" for name, count in evidence.cost.items())
        say(f"forward-pass equivalents: {spent}")
    say(f"{chosen.describe()}; the rule cost {cost:.1f} forward passes beside the profile: {out}")


def certify(
    model: ModelOptions,
    plan: PlanWords,
    data: DataOptions,
    epsilon: Epsilon = 0.02,
    delta: Annotated[float, typer.Option(help="Chance the bound may be wrong.")] = 0.05,
    method: Annotated[
        str, typer.Option(help=f"auto, label-free, {', '.join(METHODS)}; see theory.certify_mean.")
    ] = "auto",
    out: Annotated[Path, typer.Option(help="Certificates to write (JSON).")] = Path(
        "out/certificates.json"
    ),
) -> None:
    """Bound disagreement and accuracy drop of a plan, on images that chose nothing. Resumable.

    The drop needs answers in the data. "Does not hold" is an answer too, and the exit code is 0
    either way. Under `torchrun` the batches are dealt out to the processes.

    Example: `skipit certify reference out/plan.json --data easy-vqa:certification`
    """
    planned, items = read_plan(plan), data.items()
    vlm = model.load()
    read = planned(vlm.layout.n_layers)
    with resumable(out) as checkpoint:
        made = certify_both(
            vlm,
            read,
            items,
            epsilon=epsilon,
            delta=delta,
            method=method,
            batch_size=data.batch_size,
            checkpoint=checkpoint,
        )
    save(out, [certificate.to_json() for certificate in made])
    for certificate in made:
        say(certificate.sentence())
    say(f"certificates: {out}")


def compare(
    model: ModelOptions,
    plan: PlanWords,
    data: DataOptions,
    out: Annotated[Path, typer.Option(help="Comparison to write (JSON).")] = Path(
        "out/comparison.json"
    ),
) -> None:
    """Full against skipped: accuracy, drop, disagreement, KL, FLOPs and latency. Resumable.

    Example: `skipit compare reference out/plan.json --data easy-vqa:test`
    """
    planned, items = read_plan(plan), data.items()
    vlm = model.load()
    read = planned(vlm.layout.n_layers)
    with resumable(out) as checkpoint:
        found = run_compare(vlm, read, items, batch_size=data.batch_size, checkpoint=checkpoint)
    cost = measure_cost(vlm, read, items, batch_size=data.batch_size)
    save(out, {"comparison": found.to_json(), "cost": cost.to_json()})
    low, high = found.disagreement.interval
    say(
        f"{read.describe()}: disagreement {found.disagreement.value:.2%} ({low:.2%} to {high:.2%}, "
        f"{found.n_images} images), FLOPs x{cost.prefill.flops_ratio:.2f}, "
        f"latency x{cost.prefill.latency_ratio.value:.2f}: {out}"
    )


def sweep(
    model: ModelOptions,
    data: DataOptions,
    out: Annotated[
        Path, typer.Option(help="Folder for sweep.json, its checkpoint and the plots.")
    ] = Path("out/sweep"),
    step: Annotated[int, typer.Option(min=1, help="Every so many layers and depths.")] = 1,
    epsilon: Epsilon = 0.02,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only these, repeatable (of {', '.join(RULE_MODES)}; "
            f"default: {', '.join(SWEPT)})."
        ),
    ] = None,
) -> None:
    """Every single-layer skip and freeze, every exit and entry depth, with plots. Resumable.

    Killed at any time, the same command continues after the last finished batch. Under
    `torchrun` the batches are dealt out to the processes.

    Example: `skipit sweep reference --data easy-vqa:test --limit 100 --out out/sweep`
    """
    check_writable(out / "sweep.json")
    items = data.items()
    vlm = model.load()
    plans = sweep_plans(vlm.layout.n_layers, step=step, modes=mode or SWEPT)
    found = run_sweep(
        vlm, items, plans, checkpoint=out / "checkpoint.jsonl", batch_size=data.batch_size
    )
    save(out / "sweep.json", [comparison.to_json() for comparison in found])
    if is_main():
        plot_depth(out / "depth.png", found, blind=None, no_vision=None)
        plot_layers(out / "layers.png", found, SkipPlan("block", vlm.layout.n_layers), epsilon)
    say(f"{len(found)} plans on {len({i.cluster for i in items})} images: {out}/sweep.json")
