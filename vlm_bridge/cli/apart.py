"""No command writes a result over a file that it reads, or over one of another kind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_bridge.cli.replacing import check_replaceable, held_in
from vlm_bridge.errors import BridgeError

if TYPE_CHECKING:
    from vlm_bridge.data import Item

#: Options and arguments in words that may name a file; every option of type `Path` does.
_NAMES = (
    *("model", "models", "plan", "data", "certification", "profiling", "test", "training"),
    "outcomes",
)
#: Figures of a survey.
_SURVEY_FIGURES = ("layers.png", "depth.png", "profile.png")
#: What commands write into the folder OUT, the main result first; others write a file OUT.
_IN_FOLDER = {
    "adaptive search": ("search.json", "adaptive.json", "front.png", "scores.json"),
    "claims": ("claims.json", "claims.md", "claims.html"),
    "demo": ("results.json", "report.html"),
    "method": ("result.json",),
    "reproduce": (
        *("reproduction.json", "reproduction.md"),
        *("profile.png", "depth.png", "layers.png"),
    ),
    "report": ("report.html",),
    "report of a survey": ("survey.html", *_SURVEY_FIGURES),
    "report of a run": ("report.html", "report.png"),
    "run": (
        *("run.json", "profile.json", "profile-null.json", "profile.png", "search.json"),
        *("scores.json", "plan.json", "certificates.json", "comparison.json", "answers.jsonl"),
        *("cost.json", "report.html", "report.png"),
        *(f"splits/{name}.jsonl" for name in ("profiling", "tuning", "certification", "test")),
    ),
    "search": ("search.json", "plan.json", "scores.json"),
    "survey": ("survey.json", "survey.md", "survey.html", *_SURVEY_FIGURES),
    "sweep": ("sweep.json", "depth.png", "layers.png"),
}


#: An option that names a further result, of its own kind.
_ALSO = "items"

#: What the running command writes.
_written: ContextVar[tuple[Path, ...]] = ContextVar("_written", default=())


@contextlib.contextmanager
def apart(command: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Runs `command` in its block, in which `check_images` knows what it writes.

    Raises a `BridgeError` if a result would replace a file that `options` name: one that the
    command reads, its ledger, or the lock of its ledger; or a file of another kind than the result.
    """
    out = options.get("out")
    command = _form(command, options)
    results = tuple(_results(command, out)) if isinstance(out, Path) else ()
    of_option = {"--out": results}
    if isinstance(also := options.get(_ALSO), Path):
        of_option[f"--{_ALSO}"] = (also,)
    for role, path in _used(options, out) if isinstance(out, Path) else ():
        for option, written in of_option.items():
            if any(_is_same(result, path) for result in written):
                raise BridgeError(
                    f"{option} would replace {path}, which this command uses as {role}; "
                    f"name another {option}"
                )
    for option, written in of_option.items():
        if written:
            form = command if option == "--out" else f"{command} {option}"
            check_replaceable(form, written, option)
    if isinstance(also, Path) and any(_is_same(result, also) for result in results):
        raise BridgeError(f"--{_ALSO} and --out both name {also}; name another --{_ALSO}")
    token = _written.set(tuple(path for written in of_option.values() for path in written))
    try:
        yield
    finally:
        _written.reset(token)


def _form(command: str, options: Mapping[str, Any]) -> str:
    """The command, by the name of its form where forms write different results."""
    if command == "report" and (of := held_in(Path(options["results"]))) in ("a survey", "a run"):
        return f"report of {of}"
    if command == "search" and options.get("adaptive"):
        return "adaptive search"
    forms = [name for name in ("per", "risks", "anytime") if options.get(name)]
    return f"certify --{forms[0]}" if command == "certify" and forms else command


def check_images(items: Iterable[Item]) -> None:
    """Raise a `BridgeError` if a result of the running command would replace a file of items."""
    results = {(at.st_dev, at.st_ino) for at in _files(_written.get())}
    if not results:
        return
    named: dict[Path, str] = {}
    for item in items:
        named |= {image: "an image" for image in item.images if isinstance(image, Path)}
        named |= {} if item.audio is None else {item.audio: "a recording"}
    for file, what in named.items():
        if any((at.st_dev, at.st_ino) in results for at in _files([file])):
            raise BridgeError(f"--out would replace {file}, {what} of the data; name another --out")


def _files(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """What the system says of those of the paths that exist."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            yield os.stat(path)


def _results(command: str, out: Path) -> Iterator[Path]:
    if command in _IN_FOLDER:
        yield from (out / name for name in _IN_FOLDER[command])
        return
    yield out
    if command == "profile" and out.name:
        yield out.with_name(f"{out.stem}-null.json")
        yield out.with_suffix(".png")


def _used(options: Mapping[str, Any], out: Path) -> Iterator[tuple[str, Path]]:
    """The files that the options name, each with its role."""
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        for one in values:
            named = isinstance(one, Path) or (name in _NAMES and isinstance(one, str) and one)
            if name not in ("out", _ALSO) and named:
                yield name.replace("_", "-"), Path(one)
    if "ledger" in options and not options.get("no_ledger"):
        ledger = options["ledger"] or ledger_beside(out)
        yield "ledger", ledger
        yield "lock of the ledger", Path(f"{ledger}.lock")


def ledger_beside(out: Path) -> Path:
    """The ledger of a command that writes `out` and names no ledger."""
    return out.parent / "ledger.jsonl"


def _is_same(result: Path, path: Path) -> bool:
    """Whether both name one file, which need not exist."""
    try:
        return os.path.realpath(result) == os.path.realpath(path) or os.path.samefile(result, path)
    except (OSError, ValueError):  # one of them is no file: words of a plan, a model of the hub
        return False
