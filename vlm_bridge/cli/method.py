"""`skipit method`: a published method end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from estimators import Estimate
from vlm_bridge.cli.model import cost_lines
from vlm_bridge.cli.options import DataOptions, ModelOptions
from vlm_bridge.cli.output import save, say
from vlm_bridge.errors import BridgeError
from vlm_bridge.methods import find_method
from vlm_bridge.methods.run import MethodResult, run_method
from vlm_bridge.runtime.files import check_writable


def method(
    name: Annotated[str, typer.Argument(metavar="METHOD", help="`skipit methods` lists them.")],
    model: ModelOptions,
    data: DataOptions,
    profiling: Annotated[
        str | None,
        typer.Option(help="Questions the method may choose by, as --data (images of their own)."),
    ] = None,
    profiling_limit: Annotated[int, typer.Option(min=1, help="Only so many of their images.")] = 40,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, NAME=VALUE; may be repeated.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Timed pairs of full and method.")] = 15,
    tokens: Annotated[int, typer.Option(help="Tokens generated to time one; 0 or 2 up.")] = 4,
    out: Annotated[Path, typer.Option(help="Folder of the result and its checkpoints.")] = Path(
        "out/method"
    ),
) -> None:
    """Run a published method end to end beside the full model. Resumable.

    The method chooses on --profiling, then full model and method answer --data: accuracy and
    disagreement by image, FLOPs counted, latency measured.

    Example: `skipit method unified reference --data easy-vqa:test --limit 40 --set speed_up=1.2`

    Example: `skipit method gm-skip reference-smolvlm --data scenes:test --profiling scenes:tuning`
    """
    chosen = find_method(name, **_settings(name, set_ or []))
    if chosen.requires != "nothing" and profiling is None:
        raise BridgeError(
            f"{name} reads {chosen.requires}: name the questions it may choose by with --profiling"
        )
    check_writable(out / "result.json")
    result = run_method(
        model.load(),
        chosen,
        [] if profiling is None else _seen(profiling, data, profiling_limit),
        data.items(),
        batch_size=data.batch_size,
        pairs=pairs,
        tokens=tokens,
        folder=out / "checkpoint",
    )
    save(out / "result.json", result.to_json())
    for line in method_lines(result):
        say(line)
    say(f"result: {out / 'result.json'}")


def method_lines(result: MethodResult) -> list[str]:
    """A result for people, a line a quantity."""
    lines = [f"{result.method} ({result.source}); {result.deviation}"]
    plan = "decided while the model runs" if result.plan is None else result.plan.describe()
    lines.append(f"plan: {plan}; choosing cost {result.forward_cost:.1f} passes")
    lines.append(f"disagreement: {_shown(result.disagreement)}")
    if result.accuracy is not None and result.accuracy_full is not None:
        full, skipped = _shown(result.accuracy_full), _shown(result.accuracy)
        lines.append(f"accuracy: full {full}, {result.method} {skipped}")
    return lines + cost_lines(result.cost)


def _shown(one: Estimate) -> str:
    low, high = one.interval
    return f"{one.value:.3f} ({low:.3f} to {high:.3f}, {one.n} images)"


def _seen(words: str, data: DataOptions, limit: int) -> list[Any]:
    return DataOptions(words, images=data.images, per_image=data.per_image, limit=limit).items()


def _settings(name: str, words: list[str]) -> dict[str, Any]:
    """Settings from NAME=VALUE, each of the type its default has.

    Raises:
        BridgeError: not of that form, or no number.
    """
    known = find_method(name).settings
    found: dict[str, Any] = {}
    for word in words:
        setting, equals, value = word.partition("=")
        kind = type(known.get(setting, 0.0))
        try:
            found[setting] = kind(value)
        except ValueError:
            equals = ""
        if not equals:
            raise BridgeError(f"a setting is NAME=VALUE with a number for VALUE, got '{word}'")
    return found
