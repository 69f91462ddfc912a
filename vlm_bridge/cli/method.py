"""`skipit method`: a published method end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from estimators import Estimate
from theory.certificates.certificate import changed_things, unspoken
from vlm_bridge.cli.model import cost_lines
from vlm_bridge.cli.options import DataOptions, MaxNewTokens, ModelOptions, Pairs
from vlm_bridge.cli.output import save, say
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.methods import find_method
from vlm_bridge.methods.run import MethodResult, run_method
from vlm_bridge.runtime.files import check_writable


def method(
    name: Annotated[str, Argument(metavar="METHOD", help="See `skipit methods`.")],
    model: ModelOptions,
    data: DataOptions,
    profiling: Annotated[
        str | None,
        Option(help="Questions for the method's choice, in the form of --data; other images."),
    ] = None,
    profiling_limit: Annotated[int, Option(min=1, help="First images of --profiling to use.")] = 40,
    set_: Annotated[
        list[str] | None, Option("--set", help="Setting NAME=VALUE; repeatable.")
    ] = None,
    pairs: Pairs = 15,
    tokens: Annotated[int, Option(help="Tokens to generate to time one; 0, or 2 and more.")] = 4,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    out: Annotated[Path, Option(help="Folder of result and checkpoints.")] = Path("out/method"),
) -> Any:
    """Run a published method end to end beside the full model. Resumable.

    The method chooses what to skip on --profiling. Then the full model and the method answer
    --data: accuracy and disagreement by image, FLOPs counted, latency measured.

    Example: `skipit method unified reference --data easy-vqa:test --limit 40 --set speed_up=2`

    Example: `skipit method gm-skip reference-smolvlm --data scenes:test --profiling scenes:tuning`
    """
    chosen = find_method(name, **_settings(name, set_ or []))
    if chosen.requires != "nothing" and profiling is None:
        raise BridgeError(f"{name} requires {chosen.requires}: name its questions with --profiling")
    check_writable(out / "result.json")
    result = run_method(
        model.load(),
        [] if profiling is None else replace(data, data=profiling, limit=profiling_limit).items(),
        data.items(),
        chosen,
        batch_size=data.batch_size,
        max_new_tokens=max_new_tokens,
        pairs=pairs,
        tokens=tokens,
        folder=out / "checkpoint",
    )
    written = save(out / "result.json", result.to_json())
    for line in method_lines(result):
        say(line)
    say(f"result: {out / 'result.json'}")
    return written


def method_lines(result: MethodResult) -> list[str]:
    """Lines of text on a result, one for each quantity."""
    lines = [f"{result.method} ({result.source}); {result.deviation}"]
    plan = "decided while the model runs" if result.plan is None else result.plan.describe()
    lines.append(f"plan: {plan}; choosing cost {result.forward_cost:.1f} passes")
    things = changed_things(result.max_new_tokens)
    open_end = unspoken(result.max_new_tokens, result.share_at_limit)
    lines.append(f"disagreement of {things}: {_with_interval(result.disagreement)}{open_end}")
    if result.accuracy is not None and result.accuracy_full is not None:
        full, skipped = _with_interval(result.accuracy_full), _with_interval(result.accuracy)
        unlabelled = (
            f"; {result.n_unlabelled} questions without a label" if result.n_unlabelled else ""
        )
        lines.append(f"accuracy: full {full}, {result.method} {skipped}{unlabelled}")
    return lines + cost_lines(result.cost)


def _with_interval(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{estimate.value:.3f} ({low:.3f} to {high:.3f}, {estimate.n} images)"


def _settings(name: str, words: list[str]) -> dict[str, Any]:
    """Settings from NAME=VALUE; a BridgeError for other forms, and for what a setting cannot be."""
    known = find_method(name)
    settings: dict[str, Any] = {}
    for word in words:
        setting, equals, value = word.partition("=")
        if not equals:
            raise BridgeError(f"a setting is NAME=VALUE, got '{word}'")
        kind = type(known.settings.get(setting, ""))
        try:
            settings[setting] = kind(value)
            find_method(name, **{setting: settings[setting]})
        except ValueError:
            if setting not in known.settings:
                raise
            raise BridgeError(
                f"{setting} of {name} is {known.takes[setting]}, got {shown(value)}"
            ) from None
    return settings
