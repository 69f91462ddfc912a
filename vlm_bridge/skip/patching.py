"""Replace a module's `forward` for a while, whatever way it is called."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

Forward = Callable[..., Any]


@contextlib.contextmanager
def patched(module: nn.Module, forward: Forward) -> Iterator[None]:
    """Replace `module.forward` for a while; one set on the instance before comes back.

    Where accelerate moves a module's inputs to its device, what it wraps is replaced, so
    that they have been moved by then.
    """
    slot = "_old_forward" if hasattr(module, "_hf_hook") else "forward"
    had = module.__dict__.get(slot)
    setattr(module, slot, forward)
    try:
        yield
    finally:
        if had is None:
            delattr(module, slot)
        else:
            setattr(module, slot, had)


def forward_of(module: nn.Module) -> Forward:
    """What `patched` replaces."""
    found: Forward = getattr(module, "_old_forward" if hasattr(module, "_hf_hook") else "forward")
    return found


def parameters_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters of `module.forward`, in order."""
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


def by_name(module: nn.Module, forward: Forward, *, as_tuple: bool = False) -> Forward:
    """`forward` as a replacement of `module.forward` that gets all arguments by name.

    With `as_tuple`, bare hidden states are returned in a tuple.
    """
    names = parameters_of(module)

    def call(*args: Any, **kwargs: Any) -> Any:
        output = forward(**dict(zip(names, args, strict=False)), **kwargs)
        return (output,) if as_tuple and not isinstance(output, tuple) else output

    return call
