"""The models and data sets of others: what they are, whose, under which licence, from where."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party.data_sets import DATA_SETS
from vlm_bridge.third_party.entry import Entry
from vlm_bridge.third_party.models import MODELS

#: Every model and data set by name, models first.
CATALOGUE = {entry.name: entry for entry in (*MODELS, *DATA_SETS)}


def find_entry(name: str, kind: str = "") -> Entry:
    """The entry of that name, of any kind or of `model` or `data`.

    Raises:
        BridgeError: there is none; the message lists those there are.

    Example:
        >>> find_entry("librivox").licence
        'BSD-2-Clause'
    """
    there = names_of(kind)
    if name not in there:
        word = {"model": "model", "data": "data set", "": "model or data set"}[kind]
        raise BridgeError(f"no third-party {word} '{name}'; there are {', '.join(there)}")
    return CATALOGUE[name]


def names_of(kind: str = "") -> list[str]:
    """The names of all entries, or of those of the kind `model` or `data`.

    Example:
        >>> names_of("data")
        ['fashion-photos', 'spoken-prompts', 'librivox']
    """
    return [entry.name for entry in CATALOGUE.values() if kind in ("", entry.kind)]
