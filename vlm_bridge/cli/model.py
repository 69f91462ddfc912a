"""`skipit describe`, `cost` and `prune`: a model, and the cost of a plan."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from estimators import Estimate
from vlm_bridge.cli.apart import check_images
from vlm_bridge.cli.as_json import show
from vlm_bridge.cli.lossless import MOST_DRAFTS, lossless_cost
from vlm_bridge.cli.options import (
    Model,
    ModelOptions,
    Pairs,
    PlanWords,
    Remote,
    Tokens,
    read_items,
)
from vlm_bridge.cli.output import save, say
from vlm_bridge.cost import Cost, measure_cost
from vlm_bridge.data import first_units, items_hash, limit_per_image, noise_items
from vlm_bridge.errors import BridgeError, among
from vlm_bridge.model.vlm import VLM, load_meta
from vlm_bridge.runtime.files import check_writable
from vlm_bridge.skip.describe import describe as run_describe
from vlm_bridge.skip.export import prune as run_prune
from vlm_bridge.skip.export_gguf import check_gguf, export_gguf
from vlm_bridge.skip.export_onnx import check_onnx, export_onnx

Lossless = Annotated[
    bool,
    Option(
        "--lossless",
        help="Predict and measure the plan as a draft: the same answers, perhaps faster.",
    ),
]
#: What the result of `prune` serves, by format.
FORMATS = {
    "safetensors": "for transformers",
    "onnx": "for ONNX Runtime",
    "gguf": "for llama.cpp",
}
#: Where a further format lies in the folder of `prune`, what refuses a model, and what writes it.
_WRITERS: dict[str, tuple[str, Callable[[VLM], None], Callable[[Path, Path], Path]]] = {
    "onnx": ("onnx", check_onnx, export_onnx),
    "gguf": ("model.gguf", check_gguf, export_gguf),
}
#: Images that `--lossless` answers about, by default.
_LOSSLESS_UNITS = 12


def describe(model: Model, trust_remote_code: Remote = False) -> Any:
    """Show layout, token groups and supported modes of a model.

    Reads the configuration and the processor, no weights.

    Example: `skipit describe reference`
    """
    description = run_describe(load_meta(model, trust_remote_code=trust_remote_code))
    show(str(description))
    return description.to_json()


def cost(
    model: ModelOptions,
    plan: PlanWords,
    data: Annotated[
        str | None,
        Option(
            help="JSONL file or NAME:SPLIT to time (default: noise images; without vision and with "
            "--lossless: required)."
        ),
    ] = None,
    images: Annotated[
        Path | None, Option(help="Folder of images and recordings of --data (default: the file's).")
    ] = None,
    side: Annotated[int, Option(min=8, help="Width and height of a noise image.")] = 336,
    batch_size: Annotated[int, Option(min=1, help="Sequences in the timed batch.")] = 16,
    pairs: Pairs = 15,
    tokens: Tokens = 8,
    out: Annotated[Path, Option(help="Cost to write (JSON).")] = Path("out/cost.json"),
    lossless: Lossless = False,
    limit: Annotated[
        int | None,
        Option(
            min=1, help="With --lossless: first images to use, one question each (default: 12)."
        ),
    ] = None,
    draft_tokens: Annotated[
        int | None,
        Option(
            min=1,
            max=MOST_DRAFTS,
            help="With --lossless: drafted tokens of a round (default: the best by prediction).",
        ),
    ] = None,
    acceptance: Annotated[
        float | None,
        Option(
            min=0.0,
            max=1.0,
            help="With --lossless: share of drafted tokens that the full model accepts "
            "(default: measured on the data).",
        ),
    ] = None,
) -> Any:
    """Measure FLOPs, latency, peak memory and cache size of a plan.

    Runs of the full and of the skipped model alternate, after two warm-up runs of each. Ratios are
    skipped/full.

    With --lossless the answers stay those of the full model: the model under the plan drafts k
    tokens, and the full model looks at all of them in one pass. This pays if drafts are accepted
    often (a) and a draft pass is much faster than a full one (c): a round gives
    (1 - a^(k+1)) / (1 - a) tokens for k c + v full passes, v being the time of a pass over k + 1
    tokens. The command measures a, c and v, predicts the speed-up, and then measures it, one prompt
    at a time, answers of --tokens tokens. Plans that skip vision or audio tokens alone speed up the
    prefill and save nothing in decoding, so they never pay here; use block or sublayer.

    Example: `skipit cost reference "early_exit exit=26"`

    Example: `skipit cost smollm2-135m "block layers=17" --lossless --data python-docs:test
    --tokens 32`
    """
    check_writable(out)
    given = {"--limit": limit, "--draft-tokens": draft_tokens, "--acceptance": acceptance}
    if not lossless and (named := [name for name, value in given.items() if value is not None]):
        raise BridgeError(f"{', '.join(named)} goes with --lossless only")
    if lossless and data is None:
        raise BridgeError("--lossless generates answers; give --data, questions to answer")
    vlm, skip_plan = model.load_with(plan)
    if data is None and not vlm.layout.vision_ids:
        raise BridgeError(
            f"{vlm.name} sees no images, so noise images cannot be timed; give --data, questions"
        )
    whose = {"model": vlm.name, "fingerprint": vlm.fingerprint}
    body = {"plan": skip_plan.to_json(), **whose}
    if lossless and data is not None:
        say(skip_plan.describe(vlm.layout.modality))
        items = first_units(
            limit_per_image(read_items(data, images=images), 1), limit or _LOSSLESS_UNITS
        )
        check_images(items)
        found = lossless_cost(
            vlm,
            items,
            skip_plan,
            acceptance=acceptance,
            draft_tokens=draft_tokens,
            pairs=pairs,
            tokens=tokens,
        )
        result = save(out, {**body, "data_hash": items_hash(items), "lossless": found})
        say(f"cost: {out}")
        return result
    with tempfile.TemporaryDirectory() as folder:
        items = (
            read_items(data, images=images)
            if data
            else noise_items(Path(folder), batch_size, side=side)
        )
        check_images(items)
        settings = {"batch_size": batch_size, "pairs": pairs, "tokens": tokens}
        measured = measure_cost(vlm, items, skip_plan, **settings)
    result = save(out, {**body, "cost": measured.to_json()})
    for line in (skip_plan.describe(vlm.layout.modality), *cost_lines(measured), f"cost: {out}"):
        say(line)
    return result


def cost_lines(cost: Cost) -> list[str]:
    """A cost for people, one line for each quantity."""
    lines = []
    for name, phase in (("prefill", cost.prefill), ("per token", cost.decode)):
        if phase is None:
            continue
        lines.append(
            f"{name:<10}FLOPs {_plain(phase.flops_full / 1e9)} -> "
            f"{_plain(phase.flops_skipped / 1e9)} "
            f"GFLOP ({phase.flops_ratio:.2f})   latency {_plain(phase.seconds_full * 1e3)} -> "
            f"{_plain(phase.seconds_skipped * 1e3)} ms "
            f"({_ratio(phase.latency_ratio)})"
        )
    for name, full, skipped, ratio in (
        ("KV cache", cost.kv_bytes_full, cost.kv_bytes_skipped, cost.kv_ratio),
        ("peak", cost.peak_bytes_full, cost.peak_bytes_skipped, cost.peak_ratio),
    ):
        lines.append(f"{name:<10}{_plain(full / 1e6)} -> {_plain(skipped / 1e6)} MB ({ratio:.2f})")
    sequences = "sequence" if cost.batch_size == 1 else "sequences"
    tokens = "token" if cost.length == 1 else "tokens"
    size = f"{cost.batch_size} {sequences} of {cost.length} {tokens}"
    lines.append(f"{size}, {cost.dtype}, {cost.device}")
    return lines


def _plain(value: float) -> str:
    """Three digits, or all before the point.

    >>> _plain(0.01234), _plain(1118.4)
    ('0.0123', '1,118')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _ratio(ratio: Estimate) -> str:
    """The median of paired ratios with its interval, or why it has none."""
    low, high = ratio.interval
    interval = f"{low:.2f} to {high:.2f}" if ratio.reliable else ratio.reason
    return f"median of {ratio.n} paired ratios {ratio.value:.2f}, {interval}"


def prune(
    model: ModelOptions,
    plan: PlanWords,
    out: Annotated[Path, Option(help="Folder to write, new or empty.")] = Path("out/pruned"),
    format: Annotated[
        str,
        Option(help=f"Also write the folder's model for another runtime: {', '.join(FORMATS)}."),
    ] = "safetensors",
) -> Any:
    """Export a block plan as a smaller model of its own.

    The smaller model loads and generates without this package. The format onnx adds a folder for
    ONNX Runtime, gguf a file for llama.cpp.

    Example: `skipit prune reference "block layers=11,20" --out out/smaller`
    """
    if format not in FORMATS:
        raise BridgeError(f"unknown format '{format}'; {among(format, FORMATS)}")
    vlm, skip_plan = model.load_with(plan)
    if format in _WRITERS:
        _WRITERS[format][1](vlm)  # before anything is written
    folder = run_prune(vlm, skip_plan, out)
    say(f"{folder}: loads with transformers' from_pretrained")
    whose = {"model": vlm.name, "fingerprint": vlm.fingerprint}
    body = {"folder": str(folder), **whose, "plan": skip_plan.to_json()}
    if format in _WRITERS:
        name, _, write = _WRITERS[format]
        body[format] = str(write(folder, folder / name))
        say(f"{body[format]}: {FORMATS[format]}")
    return body
