"""`skipit run`: the whole path on one model, by one command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from typer import Option

from vlm_bridge.cli.apart import check_images
from vlm_bridge.cli.options import LedgerOptions, ModelOptions, read_items
from vlm_bridge.cli.output import say
from vlm_bridge.data import Item, first_units, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.whole_run import (
    RunSettings,
    RunSplits,
    forecast,
    read_settings,
    whole_run,
    write_run,
    written_settings,
)
from vlm_bridge.experiments.whole_run.run import count_candidates
from vlm_bridge.experiments.whole_run.settings import SPLITS
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, write_bytes

_DEFAULT = RunSettings()
#: Names in settings.toml that are not of `RunSettings`, and what they are.
_OTHERS = {
    "data": "questions of all splits",
    "profiling": "questions that rank the layers",
    "tuning": "questions that choose plans",
    "certification": "questions that certify a plan",
    "test": "questions on which it is reported",
    "images": "folder of images and recordings",
    "per_image": "questions per image",
    "limit": "first images to use",
}


@dataclass(frozen=True)
class RunData:
    """One data set that is dealt to four splits, or four."""

    section: ClassVar[str] = "Data options: --data, or one for each of the four uses"
    data: Annotated[
        str | None,
        Option(
            help="JSONL file or NAME:SPLIT whose images are dealt to profiling, tuning, "
            "certification and test, in random order (see docs/data.md)."
        ),
    ] = None
    profiling: Annotated[str | None, Option(help="They rank the layers; as --data.")] = None
    tuning: Annotated[str | None, Option(help="They choose the plans to test; as --data.")] = None
    certification: Annotated[str | None, Option(help="They certify a plan; as --data.")] = None
    test: Annotated[str | None, Option(help="The plan is reported on them; as --data.")] = None
    images: Annotated[
        Path | None, Option(help="Folder of images and recordings (default: the file's).")
    ] = None
    per_image: Annotated[
        int | None, Option(min=1, help="Questions per image, at most (default: all).")
    ] = None
    limit: Annotated[
        int | None, Option(min=1, help="First images to use of each data set (default: all).")
    ] = None

    def splits(self, settings: RunSettings) -> RunSplits:
        """Read the questions, and deal them if they are one data set."""
        given = {name: getattr(self, name) for name in SPLITS}
        some = [name for name, value in given.items() if value is not None]
        if (self.data is None) == (not some):
            raise BridgeError(
                f"give --data, or all of --{', --'.join(SPLITS)}"
                + ("; both are given" if some else "; none is given")
            )
        if self.data is not None:
            return RunSplits.deal(self._read(self.data), settings.shares, seed=settings.seed)
        if missing := [name for name in SPLITS if name not in some]:
            raise BridgeError(f"--{missing[0]} is missing; without --data each use has its own")
        return RunSplits(*(tuple(self._read(given[name])) for name in SPLITS))

    def _read(self, data: str) -> list[Item]:
        items = read_items(data, images=self.images)
        check_images(items)
        if self.per_image is not None:
            items = limit_per_image(items, self.per_image)
        return items if self.limit is None else first_units(items, self.limit)


@dataclass(frozen=True)
class RunOptions:
    """Settings; what is not given stands in --config, or has its default."""

    section: ClassVar[str] = "Settings"
    rule: Annotated[
        list[str] | None,
        Option(help=f"Repeatable: rules of candidates (default: {', '.join(_DEFAULT.rule)})."),
    ] = None
    mode: Annotated[
        list[str] | None,
        Option(help="Repeatable: modes of candidates (default: the rule's first)."),
    ] = None
    epsilon: Annotated[
        float | None,
        Option(help=f"Share of answers that may change (default: {_DEFAULT.epsilon:g})."),
    ] = None
    delta: Annotated[
        float | None,
        Option(help=f"Probability that the certificate is wrong (default: {_DEFAULT.delta:g})."),
    ] = None
    shares: Annotated[
        str | None,
        Option(help="Of the images of --data for the four uses (default: 0.1,0.2,0.4,0.3)."),
    ] = None
    scorer: Annotated[
        list[str] | None,
        Option(help="Repeatable: scores of the comparison; see `skipit scorers` (default: exact)."),
    ] = None
    max_new_tokens: Annotated[
        int | None, Option(min=1, help=f"Longest answer (default: {_DEFAULT.max_new_tokens}).")
    ] = None
    batch_size: Annotated[
        int | None, Option(min=1, help=f"Questions in a batch (default: {_DEFAULT.batch_size}).")
    ] = None
    pairs: Annotated[
        int | None,
        Option(min=1, help=f"Timed pairs; an interval needs 6 (default: {_DEFAULT.pairs})."),
    ] = None
    seed: Annotated[
        int | None, Option(min=0, help="Of the order in which images are dealt (default: 0).")
    ] = None

    def given(self) -> dict[str, Any]:
        """What was given, as `RunSettings` takes it."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        if self.shares is not None:
            try:
                values["shares"] = [float(share) for share in self.shares.split(",")]
            except ValueError:
                raise BridgeError(
                    f"--shares is four numbers with commas between, got '{self.shares}'"
                ) from None
        return values


def run(
    model: ModelOptions,
    data: RunData,
    settings: RunOptions,
    spending: LedgerOptions,
    config: Annotated[
        Path | None,
        Option(help="TOML of settings, named as the options; the command line comes first."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what can be certified and how long it takes; stop.")
    ] = False,
    out: Annotated[Path, Option(help="Folder of results and checkpoints.")] = Path("out/run"),
) -> Any:
    """Run the whole path: profile, search, certify, compare, report. Resumable.

    First says how many images each use has, which epsilon they can certify, and how long it takes
    at most; an epsilon out of reach is refused before any work. Then profiling questions rank the
    layers, tuning questions choose plans, certification questions test these in sequence, and the
    certified plan is compared and timed on test questions. No split shares an image with another.
    Labels are read by the comparison alone.

    Writes into OUT: settings.toml (give it as --config to repeat the run), splits/*.jsonl,
    profile.json, rules.json, search.json, plan.json, certificates.json, comparison.json,
    answers.jsonl, cost.json, run.json and report.html. Each is what the single command of that name
    writes, and others take.

    Example: `skipit run reference-smolvlm --data scenes:certification --epsilon 0.05`

    Example: `skipit run reference-smolvlm --config out/run/settings.toml --dry-run`
    """
    check_writable(out / "run.json")
    read = {} if config is None else read_settings(config, _OTHERS)
    data, chosen = _merged(data, settings, read)
    splits = data.splits(chosen)
    ledger = spending.beside(out / "run.json")
    vlm = model.load()
    ahead = forecast(vlm, splits, chosen, count_candidates(vlm, chosen))
    for line in ahead.lines():
        say(line)
    ahead.check()
    if dry_run:
        return {"seconds": ahead.seconds, "answers": ahead.answers, "power": ahead.power}
    others = {name: _plain(getattr(data, name)) for name in _OTHERS}
    if is_main():
        write_bytes(out / "settings.toml", written_settings(chosen, others).encode())
        splits.write(out / "splits")
    result = whole_run(
        vlm, splits, chosen, folder=out, others={"model": model.model, **others}, ledger=ledger
    )
    if is_main():
        write_run(result, out)
    say(result.headline())
    for line in _next(result.search.certificate is not None, model.model, out):
        say(line)
    return result.to_json()


def _merged(
    data: RunData, settings: RunOptions, read: dict[str, Any]
) -> tuple[RunData, RunSettings]:
    """Both, with what the file says where the command line says nothing."""
    of_data = {name: value for name, value in read.items() if name in _OTHERS}
    for name, value in of_data.items():
        wanted: type = int if name in ("per_image", "limit") else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            what = "a whole number" if wanted is int else "text"
            raise BridgeError(f"the setting '{name}' ({_OTHERS[name]}) is {what}, got {value!r}")
    given = {name: value for name, value in vars(data).items() if value is not None}
    sources = {"data", *SPLITS}
    if sources & set(given):  # one way to name the data replaces the other
        of_data = {name: value for name, value in of_data.items() if name not in sources}
    if "images" in of_data:
        of_data["images"] = Path(of_data["images"])
    chosen = {name: value for name, value in read.items() if name not in _OTHERS}
    return replace(data, **{**of_data, **given}), RunSettings(**{**chosen, **settings.given()})


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _next(certified: bool, model: str, out: Path) -> list[str]:
    """Where the results are, and the commands that use them further."""
    lines = [f"report: {out}/report.html; all files: {out}"]
    if not certified:
        return lines
    test = f"--data {out}/splits/test.jsonl --images /"
    return [
        *lines,
        f"skipit compare {model} {out}/plan.json {test} --scorer token-f1",
        f"skipit controls {model} {out}/plan.json {test}",
        f"skipit prune {model} {out}/plan.json --out {out}/pruned  # block plans",
    ]
