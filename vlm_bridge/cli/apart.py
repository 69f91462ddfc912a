"""No command writes a result over a file that it reads, or over one of another kind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlm_bridge.cli.replacing import check_replaceable
from vlm_bridge.errors import BridgeError

#: Options and arguments in words that may name a file; every option of type `Path` does.
_NAMES = ("model", "models", "plan", "data", "certification", "profiling")
#: What commands write into the folder OUT, the main result first; others write a file OUT.
_IN_FOLDER = {
    "claims": ("claims.json", "claims.md"),
    "demo": ("results.json", "report.html"),
    "method": ("result.json",),
    "reproduce": ("reproduction.json", "reproduction.md"),
    "report": ("report.html",),
    "search": ("search.json", "plan.json"),
    "sweep": ("sweep.json", "depth.png", "layers.png"),
}


def check_apart(command: str, options: Mapping[str, Any]) -> None:
    """Raise a `BridgeError` if a result would replace a file that is no earlier result.

    These are the files that `options` name (what the command reads, its ledger, and the lock of its
    ledger), and files of another kind than the result.
    """
    out = options.get("out")
    if not isinstance(out, Path):
        return
    results = list(_results(command, out))
    for role, path in _used(options, out):
        for result in results:
            if _is_same(result, path):
                raise BridgeError(
                    f"--out would replace {path}, which this command uses as {role}; "
                    "name another --out"
                )
    check_replaceable(command, results)


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
            if name != "out" and named:
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
