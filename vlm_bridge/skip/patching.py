"""Replace a module's `forward` temporarily."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

Forward = Callable[..., Any]


@contextlib.contextmanager
def patched(module: nn.Module, forward: Forward) -> Iterator[None]:
    """Replace `module.forward` inside the block; an earlier replacement is restored after it.

    Of a forward that accelerate wraps to move inputs to the module's device, the wrapped function
    is replaced, which gets moved inputs.
    """
    slot = _slot(module)
    before = module.__dict__.get(slot)
    setattr(module, slot, forward)
    try:
        yield
    finally:
        if before is None:
            delattr(module, slot)
        else:
            setattr(module, slot, before)


def forward_of(module: nn.Module) -> Forward:
    """The function that `patched` replaces."""
    forward: Forward = getattr(module, _slot(module))
    return forward


def _slot(module: nn.Module) -> str:
    return "_old_forward" if hasattr(module, "_hf_hook") else "forward"


def parameters_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters of `module.forward`, in order."""
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


def by_name(module: nn.Module, forward: Forward, *, as_tuple: bool = False) -> Forward:
    """Pass all arguments of `module` to `forward` by name; `as_tuple` wraps a bare output."""
    names = parameters_of(module)

    def call(*args: Any, **kwargs: Any) -> Any:
        output = forward(**dict(zip(names, args, strict=False)), **kwargs)
        return (output,) if as_tuple and not isinstance(output, tuple) else output

    return call
