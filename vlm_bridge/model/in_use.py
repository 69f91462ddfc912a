"""Who runs a model at present: one plan alone, or any number of runs of the full model."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from threading import Lock

from torch import nn

from vlm_bridge.errors import BridgeError

_changing = Lock()
_skipping: set[nn.Module] = set()
_whole: Counter[nn.Module] = Counter()


@contextlib.contextmanager
def held_by_plan(name: str, layers: Iterable[nn.Module]) -> Iterator[None]:
    """The block runs a plan: refuse a model that has a layer in use elsewhere."""
    layers = set(layers)
    with _changing:
        if not _skipping.isdisjoint(layers):
            raise BridgeError(
                f"{name} is skipping already; make one plan of both with SkipPlan.compose"
            )
        if any(_whole[layer] for layer in layers):
            raise BridgeError(
                f"the full model {name} is being run, in another thread or around this block; "
                "skip when that run has ended"
            )
        _skipping.update(layers)
    try:
        yield
    finally:
        with _changing:
            _skipping.difference_update(layers)


@contextlib.contextmanager
def held_whole(name: str, layers: Iterable[nn.Module]) -> Iterator[None]:
    """The block runs the full model: refuse a model that skips, and every plan until it ends."""
    layers = set(layers)
    with _changing:
        check_whole(name, layers)
        _whole.update(layers)
    try:
        yield
    finally:
        with _changing:
            _whole.subtract(layers)


def check_whole(name: str, layers: Iterable[nn.Module]) -> None:
    """Raise a `BridgeError` if one of the layers skips at present."""
    if not _skipping.isdisjoint(layers):
        raise BridgeError(
            f"{name} is skipping at present, so what it gives is not of the full model; do this "
            "outside the block of `skipping`"
        )
