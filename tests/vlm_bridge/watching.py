"""Finds what would make a GPU wait: a value of a tensor read by Python inside a pass."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Operators that wait for the device: their result, or its shape, depends on values.
WAITING = {
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
}
#: Methods that bring values to the host; on a CPU tensor no operator shows them.
TO_HOST = {"cpu", "numpy", "tolist", "item", "__array__", "__bool__", "__int__", "__float__"}


class Watch:
    """What was found while `inside` was entered."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.depth = 0

    def note(self, what: str) -> None:
        if self.depth:
            frames = [f for f in traceback.extract_stack() if "vlm_bridge" in f.filename]
            ours = [f for f in frames if "/tests/" not in f.filename]
            last = ours[-1] if ours else traceback.extract_stack()[-4]
            self.found.append(f"{what} at {last.filename.split('/')[-1]}:{last.lineno}")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1


class _Operators(TorchDispatchMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in WAITING or (name == "index" and _by_mask(args)):
            self.watch.note(name)
        if name in ("_to_copy", "copy_", "to") and _to_host(args, out):
            self.watch.note(f"{name} to the host")
        return out


class _Methods(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        target = [*args[1:], *(kwargs or {}).values()]
        if name in TO_HOST or (name == "to" and "cpu" in map(str, target) and not _is_cpu(args)):
            self.watch.note(name)
        return func(*args, **(kwargs or {}))


def _by_mask(args: Any) -> bool:
    return any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in args[1] or ())


def _to_host(args: Any, out: Any) -> bool:
    sources = [a for a in args if isinstance(a, torch.Tensor)]
    return out.device.type == "cpu" and any(a.device.type != "cpu" for a in sources)


def _is_cpu(args: Any) -> bool:
    return isinstance(args[0], torch.Tensor) and args[0].device.type == "cpu"


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Watch every operator and method; only those inside `Watch.inside` are noted."""
    watch = Watch()
    with _Operators(watch), _Methods(watch):
        yield watch
