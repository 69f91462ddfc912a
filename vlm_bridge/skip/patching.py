"""Replace a module's `forward` temporarily."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, MethodType
from typing import Any, NoReturn

from torch import nn

from vlm_bridge.errors import BridgeError

Forward = Callable[..., Any]


class Patch:
    """A replacement for a function of a module; when its block has ended, it is the old function.

    Its copy would run the layers of the original, so that the copy of a skipping model is refused.
    """

    def __init__(self, before: Forward, after: Forward) -> None:
        self._before, self._after, self.active = before, after, True
        self.__wrapped__ = before  # the signature of the old function stays visible

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the new function; of the old one after the block."""
        return (self._after if self.active else self._before)(*args, **kwargs)

    @property
    def __code__(self) -> CodeType:
        """Code of the call, which `torch.export` looks at before it calls."""
        return type(self).__call__.__code__

    def __deepcopy__(self, _: Any) -> NoReturn:
        """Refuse; see the class."""
        raise BridgeError(
            "the model skips layers at present, so it cannot be copied or pickled; do that outside "
            "the block of `skipping`"
        )

    def __reduce_ex__(self, _: Any) -> NoReturn:
        """Refuse; see the class."""
        self.__deepcopy__(_)


@contextlib.contextmanager
def patched(module: nn.Module, function: Forward, name: str = "forward") -> Iterator[None]:
    """Replace a method of `module` inside the block; an earlier replacement is restored after it.

    Of a forward that accelerate wraps to move inputs to the module's device, the wrapped function
    is replaced, which gets moved inputs. What wraps the replacement inside the block stays.
    """
    slot = _slot(module) if name == "forward" else name
    before = module.__dict__.get(slot)
    patch = Patch(getattr(module, slot), function)
    setattr(module, slot, patch)
    try:
        yield
    finally:
        patch.active = False
        if module.__dict__.get(slot) is patch:
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


def observed(module: nn.Module) -> bool:
    """Whether someone looks at the calls of a module: by hooks, or by another forward of it."""
    own = module.__dict__
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return bool(hooked) or "forward" in own or "_old_forward" in own


def check_not_replaced(module: nn.Module, name: str) -> None:
    """Refuse a forward that another tool has replaced, which would see a part of the layer only."""
    forward = forward_of(module)
    own = isinstance(forward, MethodType) and forward.__self__ is module
    if not (own or isinstance(forward, Patch) or hasattr(forward, "_torchdynamo_orig_callable")):
        kind = type(forward) if not inspect.isroutine(forward) else forward
        raise BridgeError(
            f"the forward of {name} was replaced by {kind.__module__}.{kind.__qualname__}, which "
            "would see the tokens that run and not the layer's output; observe the layer with "
            "forward hooks, or restore its forward first"
        )


def parameters_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters of `module.forward`, in order."""
    return _parameters(type(module).forward)


@cache
def _parameters(forward: Forward) -> tuple[str, ...]:
    return tuple(inspect.signature(forward).parameters)[1:]


def by_name(module: nn.Module, forward: Forward, *, as_tuple: bool = False) -> Forward:
    """Pass all arguments of `module` to `forward` by name; `as_tuple` wraps a bare output."""
    names = parameters_of(module)

    def call(*args: Any, **kwargs: Any) -> Any:
        output = forward(**dict(zip(names, args, strict=False)), **kwargs)
        return (output,) if as_tuple and not isinstance(output, tuple) else output

    return call


def twin(module: nn.Module, **parts: nn.Module) -> nn.Module:
    """A copy with other `parts` that shares all other weights, without hooks.

    What others have put in place of its forward is left out, too.
    """
    new = copy.copy(module)
    for name in ("forward", "_old_forward", "_hf_hook"):
        new.__dict__.pop(name, None)
    hooks: dict[str, Any] = {"_forward_hooks": OrderedDict(), "_forward_pre_hooks": OrderedDict()}
    new.__dict__.update(hooks, _modules={**module._modules, **parts})
    return new
