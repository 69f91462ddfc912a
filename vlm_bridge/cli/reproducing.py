"""`skipit reproduce`: the published protocol on a large model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.cli.options import DataOptions, Remote
from vlm_bridge.cli.output import save, say
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.reproduce import (
    PUBLISHED,
    Machine,
    find_published,
    forward_cost_of,
    needs_of,
    write_reproduction,
)
from vlm_bridge.experiments.reproduce import reproduce as run_reproduction
from vlm_bridge.model.vlm import load
from vlm_bridge.runtime.files import check_writable


def reproduce(
    name: Annotated[str, typer.Argument(metavar="MODEL", help=f"One of {', '.join(PUBLISHED)}.")],
    data: DataOptions,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the weights (default: downloaded from the hub).")
    ] = None,
    profiling: Annotated[
        int, typer.Option(min=2, help="So many of the first images give the orders, no label read.")
    ] = 40,
    step: Annotated[int, typer.Option(min=1, help="Sweep every so many layers and depths.")] = 1,
    pairs: Annotated[int, typer.Option(min=1, help="Timed pairs of full and frozen.")] = 15,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    device: Annotated[str | None, typer.Option(help="A torch device (default: CPU).")] = None,
    tflops: Annotated[
        float, typer.Option(help="Throughput the device reaches, for the estimate of time.")
    ] = 100.0,
    yes: Annotated[bool, typer.Option("--yes", help="Start without asking.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Start even where memory or disk look too small.")
    ] = False,
    trust_remote_code: Remote = False,
    out: Annotated[Path, typer.Option(help="Folder of checkpoints, results and plots.")] = Path(
        "out/reproduce"
    ),
) -> None:
    """The paper's protocol on a large model, beside what ShortV and VTW published. Resumable.

    Says first what it needs: memory, disk, time, and whether it uses the network. Then: the profile
    (distances, tail probabilities, attention on vision), ShortV's order of layers against the
    published one, VTW's exit depth against the published one, and a sweep of every freeze, exit and
    entry on images that chose nothing.

    Example: `skipit reproduce llava-1.5-7b --data my.jsonl --device cuda --out out/llava`
    """
    published = find_published(name)
    check_writable(out / "reproduction.json")
    items = data.items()
    images = list(dict.fromkeys(item.cluster for item in items))
    if len(images) <= profiling:
        raise BridgeError(
            f"{data.data} is about {len(images)} images; the first {profiling} give the orders, "
            "and others have to test them: lower --profiling or bring more images"
        )
    first = set(images[:profiling])
    showing = [item for item in items if item.cluster in first]
    testing = [item for item in items if item.cluster not in first]
    forward_cost = forward_cost_of(published.n_layers, len(showing), len(testing), step=step)
    needs = needs_of(published, forward_cost=forward_cost, dtype=dtype, tflops=tflops)
    where = published.hub_id if weights is None else str(weights)
    say(f"{name} needs {needs}")
    say(f"weights: {where}" + (" (from the hub, over the network)" if weights is None else ""))
    lacking = Machine.here(device).lacks(needs, download=weights is None)
    if lacking and not force:
        raise BridgeError(f"{name} needs {' and '.join(lacking)}; --force starts it all the same")
    if not yes:
        typer.confirm("Start?", abort=True)
    vlm = load(where, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    found = run_reproduction(
        vlm, published, showing, testing, out, batch_size=data.batch_size, step=step, pairs=pairs
    )
    save(out / "reproduction.json", found.to_json())
    for line in write_reproduction(found, published, out):
        say(line)
    say(f"reproduction: {out}/reproduction.json, {out}/reproduction.md")
