"""`skipit reproduce`: the experiments of the paper on a large model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from vlm_bridge.cli.options import DataOptions, MaxNewTokens, Pairs, Remote
from vlm_bridge.cli.output import save, say
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
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
    name: Annotated[str, Argument(metavar="MODEL", help=f"One of {', '.join(PUBLISHED)}.")],
    data: DataOptions,
    weights: Annotated[
        Path | None, Option(help="Folder of the weights (default: the hub).")
    ] = None,
    profiling: Annotated[int, Option(min=2, help="First images, which order the layers.")] = 40,
    step: Annotated[int, Option(min=1, help="Step of the sweep.")] = 1,
    pairs: Pairs = 15,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    dtype: Annotated[str, Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    device: Annotated[str | None, Option(help="A torch device (default: CPU).")] = None,
    tflops: Annotated[float, Option(help="Throughput of the device, to estimate time.")] = 100.0,
    yes: Annotated[bool, Option("--yes", help="Start without a question.")] = False,
    force: Annotated[bool, Option("--force", help="Start with too little memory or disk.")] = False,
    trust_remote_code: Remote = False,
    out: Annotated[Path, Option(help="Folder of all results.")] = Path("out/reproduce"),
) -> Any:
    """Repeat the experiments of the paper on a large model. Resumable.

    First prints the memory, disk and time needed, and whether the network is used. Then measures
    the profile (distances, tail probabilities, attention to vision), ShortV's order of layers and
    VTW's exit depth beside the published ones, and a sweep of every freeze, exit and entry on the
    images that did not order the layers. Orders, exit depth and sweep are of the first answer
    token; the two plans are compared by answers up to --max-new-tokens tokens.

    Example: `skipit reproduce llava-1.5-7b --data my.jsonl --device cuda --out out/llava`
    """
    published = find_published(name)
    check_writable(out / "reproduction.json")
    items = data.items()
    images = list(dict.fromkeys(item.cluster for item in items))
    if len(images) <= profiling:
        raise BridgeError(
            f"{data.data} has {len(images)} images; the first {profiling} order the layers, "
            "and the others test the order: lower --profiling or add images"
        )
    first = set(images[:profiling])
    ordering = [item for item in items if item.cluster in first]
    testing = [item for item in items if item.cluster not in first]
    forward_cost = forward_cost_of(published.n_layers, len(ordering), len(testing), step=step)
    needs = needs_of(published, forward_cost=forward_cost, dtype=dtype, tflops=tflops)
    source = published.hub_id if weights is None else str(weights)
    say(f"{name} needs {needs}")
    say(f"weights: {source}" + (" (from the hub, over the network)" if weights is None else ""))
    lacking = Machine.here(device).lacks(needs, download=weights is None)
    if lacking and not force:
        raise BridgeError(f"{name} needs {' and '.join(lacking)}; --force starts anyway")
    if not yes:
        typer.confirm("Start?", abort=True)
    vlm = load(source, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    reproduction = run_reproduction(
        *(vlm, published, ordering, testing, out),
        batch_size=data.batch_size,
        max_new_tokens=max_new_tokens,
        step=step,
        pairs=pairs,
    )
    result = save(out / "reproduction.json", reproduction.to_json())
    for line in write_reproduction(reproduction, published, out):
        say(line)
    say(f"reproduction: {out}/reproduction.json, {out}/reproduction.md")
    return result
