"""The single commands that take the files of `skipit run` further."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from vlm_bridge.cli.options import ModelOptions
from vlm_bridge.plan.skip_plan import SkipPlan


def next_commands(
    model: ModelOptions,
    plan: SkipPlan | None,
    out: Path,
    images: Path | None,
    sizes: Mapping[str, int],
) -> Iterator[str]:
    """Commands for the shell; `plan` is the certified one, None if there is none.

    `sizes` are the longest answer and the questions in a batch, with which the certificate was
    made: it says nothing about longer answers.
    """
    whose, asked = _words(model), ["--data", str(out / "splits" / "test.jsonl")]
    asked += [] if images is None else ["--images", str(images)]
    yield shlex.join(["skipit", "report", str(out / "run.json"), "--out", str(out / "page")])
    if plan is None:
        return
    file = str(out / "plan.json")
    answers = [word for name, size in sizes.items() for word in (_option(name), str(size))]
    yield _command("compare", whose, file, *asked, *answers, "--out", str(out / "again.json"))
    yield _command("controls", whose, file, *asked, *answers, "--out", str(out / "controls"))
    yield _command("cost", whose, file, *asked, "--out", str(out / "cost-of-a-batch.json"))
    if plan.mode == "block" and not plan.parts:
        yield _command("prune", whose, file, "--out", str(out / "pruned"))


def _command(name: str, model: list[str], *words: str) -> str:
    return shlex.join(["skipit", name, model[0], *words, *model[1:]])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _words(model: ModelOptions) -> list[str]:
    """The model and its options, as far as they are no defaults."""
    words = [model.model]
    for field in fields(ModelOptions):
        value = getattr(model, field.name)
        if field.name == "model" or value == field.default:
            continue
        option = _option(field.name)
        words += [option] if value is True else [option, str(value)]
    return words
