"""The command line `skipit`: thin over the library, one line and exit code 2 on bad input."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from estimators import Profile
from theory.command import run_verify
from vlm_bridge.certification import certify_both
from vlm_bridge.choose import choose_plan
from vlm_bridge.comparison import compare as run_compare
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item, easy_vqa, limit_per_image, read_jsonl
from vlm_bridge.demo import run_demo
from vlm_bridge.errors import BridgeError
from vlm_bridge.files import check_writable, read_json, write_json
from vlm_bridge.plan import SkipPlan
from vlm_bridge.profiling import profile as run_profile
from vlm_bridge.profiling import random_copy
from vlm_bridge.report import write_report
from vlm_bridge.report.plots import plot_depth, plot_layers, plot_profile
from vlm_bridge.rules import RULES
from vlm_bridge.sweeping import MODES, sweep_plans
from vlm_bridge.sweeping import sweep as run_sweep
from vlm_bridge.vlm import load

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which layers of a vision-language model can I skip, how do I know, what will it cost?\n\n"
    "The path: `profile` -> `plan` -> `certify`; `demo` walks it once on the reference VLM.\n\n"
    "Layers are 0-based, ratios are skipped/full, intervals and certificates are by image.",
)

Model = Annotated[
    str, typer.Argument(help="'reference', a model folder, or a Hugging Face id (owner/name).")
]
PlanFile = Annotated[Path, typer.Argument(help="A plan, as `skipit plan` writes it.")]
Data = Annotated[
    str,
    typer.Option(help="A JSONL file of {image, question, answer?, group?}, or easy-vqa:SPLIT."),
]
Images = Annotated[
    Path | None, typer.Option(help="Folder of the images (default: beside the JSONL file).")
]
PerImage = Annotated[
    int | None, typer.Option(min=1, help="At most this many questions of an image (default: all).")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Questions in a batch.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="A torch device, or 'auto' (default: CPU).")]
Epsilon = Annotated[float, typer.Option(help="Share of answers that may change.")]
Remote = Annotated[
    bool, typer.Option(help="Run code that comes with the model. Off unless you say so.")
]


@app.command()
def profile(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="Profile to write (JSON).")] = Path("out/profile.json"),
    null: Annotated[
        bool, typer.Option(help="Also profile a randomly initialised copy, into OUT's -null.json.")
    ] = True,
    images: Images = None,
    per_image: PerImage = None,
    limit: Limit = None,
    batch: BatchSize = 16,
    dtype: Dtype = "float32",
    device: Device = None,
    trust_remote_code: Remote = False,
) -> None:
    """How redundant is each layer, for which tokens? One forward pass, no labels.

    Draws the profile beside that of a copy with random weights: a distance the copy shows too
    says nothing.

    Example: `skipit profile reference --data easy-vqa:profile --out out/profile.json`
    """
    check_writable(out)
    items = _items(data, images, per_image, limit)
    vlm = load(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    found = run_profile(vlm, items, size=batch)
    write_json(out, found.to_json())
    random = run_profile(random_copy(vlm), items, size=batch) if null else None
    if random is not None:
        write_json(out.with_name(f"{out.stem}-null.json"), random.to_json())
    picture = out.with_suffix(".png")
    plot_profile(picture, found, random, SkipPlan("freeze", found.n_layers))
    typer.echo(f"profile of {found.n_layers} layers on {found.n_images} images: {out}, {picture}")


@app.command()
def plan(
    model: Model,
    data: Data,
    profile: Annotated[Path, typer.Option(help="As `skipit profile` writes it.")] = Path(
        "out/profile.json"
    ),
    rule: Annotated[str, typer.Option(help=f"One of {', '.join(RULES)}.")] = "skip-it",
    epsilon: Epsilon = 0.02,
    out: Annotated[Path, typer.Option(help="Plan to write (JSON).")] = Path("out/plan.json"),
    images: Images = None,
    per_image: PerImage = None,
    limit: Limit = None,
    batch: BatchSize = 16,
    dtype: Dtype = "float32",
    device: Device = None,
    trust_remote_code: Remote = False,
) -> None:
    """The largest plan of a rule that changes at most epsilon/2 of the answers. No labels.

    Use other images than those that will certify.

    Example: `skipit plan reference --data easy-vqa:tuning --profile out/profile.json`
    """
    check_writable(out)
    items = _items(data, images, per_image, limit)
    try:
        found = Profile.from_json(read_json(profile, "profile"))
    except (ValueError, KeyError, TypeError) as error:
        raise BridgeError(f"{profile} is not a profile: {error}") from None
    vlm = load(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    chosen = choose_plan(vlm, found, items, rule=rule, epsilon=epsilon, size=batch)
    write_json(out, chosen.to_json())
    typer.echo(f"{chosen.describe()}: {out}")


@app.command()
def certify(
    model: Model,
    plan: PlanFile,
    data: Data,
    epsilon: Epsilon = 0.02,
    delta: Annotated[float, typer.Option(help="Chance the bound may be wrong.")] = 0.05,
    method: Annotated[
        str, typer.Option(help="auto, betting, clopper-pearson or hoeffding.")
    ] = "auto",
    out: Annotated[Path, typer.Option(help="Certificates to write (JSON).")] = Path(
        "out/certificates.json"
    ),
    images: Images = None,
    per_image: PerImage = None,
    limit: Limit = None,
    batch: BatchSize = 16,
    dtype: Dtype = "float32",
    device: Device = None,
    trust_remote_code: Remote = False,
) -> None:
    """Bound disagreement and accuracy drop of a plan, on images that chose nothing.

    The drop needs answers in the data. "Does not hold" is an answer too, and the exit code is 0
    either way.

    Example: `skipit certify reference out/plan.json --data easy-vqa:certification`
    """
    check_writable(out)
    read = SkipPlan.read(plan)
    items = _items(data, images, per_image, limit)
    vlm = load(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    made = certify_both(vlm, read, items, epsilon=epsilon, delta=delta, method=method, size=batch)
    write_json(out, [certificate.to_json() for certificate in made])
    for certificate in made:
        typer.echo(certificate.sentence())
    typer.echo(f"certificates: {out}")


@app.command()
def compare(
    model: Model,
    plan: PlanFile,
    data: Data,
    out: Annotated[Path, typer.Option(help="Comparison to write (JSON).")] = Path(
        "out/comparison.json"
    ),
    images: Images = None,
    per_image: PerImage = None,
    limit: Limit = None,
    batch: BatchSize = 16,
    dtype: Dtype = "float32",
    device: Device = None,
    trust_remote_code: Remote = False,
) -> None:
    """Full against skipped: accuracy, drop, disagreement, KL, FLOPs and latency.

    Example: `skipit compare reference out/plan.json --data easy-vqa:test`
    """
    check_writable(out)
    read = SkipPlan.read(plan)
    items = _items(data, images, per_image, limit)
    vlm = load(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    found = run_compare(vlm, read, items, size=batch)
    cost = measure_cost(vlm, read, items, size=batch)
    write_json(out, {"comparison": found.to_json(), "cost": cost.to_json()})
    low, high = found.disagreement.interval
    typer.echo(
        f"{read.describe()}: disagreement {found.disagreement.value:.2%} ({low:.2%} to {high:.2%}, "
        f"{found.n_images} images), FLOPs x{cost.flops_ratio:.2f}, "
        f"latency x{cost.latency_ratio.value:.2f}: {out}"
    )


@app.command()
def sweep(
    model: Model,
    data: Data,
    out: Annotated[
        Path, typer.Option(help="Folder for sweep.json, its journal and the plots.")
    ] = Path("out/sweep"),
    step: Annotated[int, typer.Option(min=1, help="Every so many layers and depths.")] = 1,
    epsilon: Epsilon = 0.02,
    mode: Annotated[
        list[str] | None, typer.Option(help=f"Only these ({', '.join(MODES)}); repeatable.")
    ] = None,
    images: Images = None,
    per_image: PerImage = None,
    limit: Limit = None,
    batch: BatchSize = 16,
    dtype: Dtype = "float32",
    device: Device = None,
    trust_remote_code: Remote = False,
) -> None:
    """Every single-layer skip and freeze, every exit and entry depth, with plots. Resumable.

    Killed at any time, the same command continues after the last finished batch.

    Example: `skipit sweep reference --data easy-vqa:test --limit 100 --out out/sweep`
    """
    check_writable(out / "sweep.json")
    items = _items(data, images, per_image, limit)
    vlm = load(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    plans = sweep_plans(vlm.layout.n_layers, step=step, modes=mode or MODES)
    found = run_sweep(vlm, items, plans, journal=out / "journal.jsonl", size=batch)
    write_json(out / "sweep.json", [comparison.to_json() for comparison in found])
    plot_depth(out / "depth.png", found, blind=None, no_vision=None)
    plot_layers(out / "layers.png", found, SkipPlan("block", vlm.layout.n_layers), epsilon)
    typer.echo(f"{len(found)} plans on {len({i.group for i in items})} images: {out}/sweep.json")


@app.command()
def rules() -> None:
    """The rules `skipit plan --rule` knows: what each ranks, from where, by which condition.

    Example: `skipit rules`
    """
    for rule in RULES.values():
        typer.echo(f"{rule.name}\t{rule.mode}\t{rule.condition}\t{rule.source}")


@app.command()
def verify(
    ids: Annotated[list[str] | None, typer.Argument(help="Statements (default: all).")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Instances of each statement.")] = 1000,
    seed: Annotated[int, typer.Option(help="Fixes the instances.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="A list of objects instead of a table.")
    ] = False,
) -> None:
    """Check the theory again: proofs, witnesses, counterexamples, random and searched instances.

    The same as `python -m theory verify`. Exit code 1 on any violation.

    Example: `skipit verify S1 S9 --trials 10000`
    """
    try:
        code = run_verify(ids or (), trials=trials, seed=seed, as_json=json)
    except ValueError as error:
        raise BridgeError(str(error)) from None
    raise typer.Exit(code)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="results.json of a demo.")],
    out: Annotated[Path, typer.Option(help="Folder for the plots and report.html.")] = Path(
        "out/report"
    ),
) -> None:
    """Draw plots and the self-contained HTML report from results again.

    Example: `skipit report out/demo/results.json --out out/report`
    """
    check_writable(out / "report.html")
    body: Any = read_json(results, "results file")
    if not isinstance(body, dict) or body.get("type") != "DemoResults":
        raise BridgeError(f"{results} does not hold results of a demo")
    typer.echo(str(write_report(body, out)))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Picks one question per image.")] = 0,
) -> None:
    """The whole path on the reference VLM, about five minutes on two cores.

    Profiles, plans, skips, compares, certifies; writes results.json, plots and report.html.

    Example: `skipit demo --out out/demo`
    """
    command = shlex.join(["skipit", "demo", "--out", str(out), "--seed", str(seed)])
    for line in run_demo(out, seed=seed, command=command).lines:
        typer.echo(line)


def _items(data: str, images: Path | None, per_image: int | None, limit: int | None) -> list[Item]:
    name, _, split = data.partition(":")
    items = easy_vqa(split) if name == "easy-vqa" else read_jsonl(data, images=images)
    if per_image is not None:
        items = limit_per_image(items, per_image)
    if limit is not None:
        kept = set(list(dict.fromkeys(item.group for item in items))[:limit])
        items = [item for item in items if item.group in kept]
    return items


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a `BridgeError` becomes one line and exit code 2."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except BridgeError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"skipit: {line}\n")
        raise SystemExit(2) from None
