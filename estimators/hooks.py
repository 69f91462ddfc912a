"""Hidden states from the caches of hook libraries, sorted by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from estimators._arrays import to_numpy

_NUMBER = re.compile(r"\d+")
_EMBEDDING = re.compile(r"embed|wte|(^|\.)embd", re.IGNORECASE)
_PRE, _POST = "hook_resid_pre", "hook_resid_post"
_TOKENS, _POSITIONS = "hook_embed", "hook_pos_embed"


def ordered_states(states: Any) -> list[NDArray[Any]]:
    """The residual states of a network in order, from a list or from a cache of hooks.

    Accepted forms:

    - a list or tuple of arrays or tensors, in the given order (`output.hidden_states`);
    - a cache with `blocks.3.hook_resid_pre` and the like: the input of every block, then the
      output of the last one (`hook_resid_post`), other entries are ignored; without inputs the
      outputs of all blocks, after `hook_embed`, if cached, plus `hook_pos_embed`, if cached;
    - names that differ in one number (`model.layers.3`, `transformer.h.3.output`): outputs of
      the layers, sorted by that number, which must have no gaps; an embedding
      (`model.embed_tokens`), if cached, comes first;
    - names without numbers: the order of the mapping.

    A value may be a tuple (the return value of a decoder layer), of which the first element is
    used, or an object with `output` or `value` (a trace).

    Args:
        states: sequence or mapping, each state of shape (n, d) or (b, s, d).

    Returns:
        Numpy arrays; tensors are copied to the CPU, half precision becomes float32.

    Raises:
        ValueError: no states, a missing layer, names that do not fit one pattern.

    Example:
        >>> cache = {f"layers.{i}": [[float(i)]] for i in (10, 9, 8)}
        >>> [float(state[0, 0]) for state in ordered_states(cache)]
        [8.0, 9.0, 10.0]
    """
    if hasattr(states, "keys") and hasattr(states, "__getitem__"):
        by_name = {str(key): states[key] for key in states.keys()}
        found = [(name, _array(by_name[name], name)) for name in order(list(by_name))]
        if found and found[0][0] == _TOKENS and _POSITIONS in by_name:
            found[0] = (_TOKENS, found[0][1] + _array(by_name[_POSITIONS], _POSITIONS))
        return [state for _, state in found]
    return [_array(state, f"state {number}") for number, state in enumerate(states)]


def order(names: Sequence[str]) -> list[str]:
    """Sort names of cached states by layer and drop other entries.

    Raises:
        ValueError: as `ordered_states`.

    Example:
        >>> order(["h.10", "h.9", "wte"])
        ['wte', 'h.9', 'h.10']
    """
    before, after = (_numbered([n for n in names if n.endswith(end)]) for end in (_PRE, _POST))
    if before or after:
        first = [_TOKENS] if _TOKENS in names and not before else []
        if first and 0 not in after:
            raise ValueError(f"block 0 is missing between {_TOKENS} and {after[min(after)]}")
        return [*first, *_residual(before, after)]
    plain = [name for name in names if not _NUMBER.search(name)]
    rest = [name for name in names if _NUMBER.search(name)]
    if not rest:
        return plain
    layers = _numbered(rest)
    _complete(layers)
    first = [name for name in plain if _EMBEDDING.search(name)]
    if len(first) > 1 or len(first) < len(plain):
        raise ValueError(
            f"{', '.join(plain)}: neither a layer nor a single embedding; pass only the "
            "states, or a list of them in order"
        )
    return [*first, *(layers[number] for number in sorted(layers))]


def begins_with_input(states: Any) -> bool:
    """Whether the first of `ordered_states` is the input of the first layer, as far as names tell.

    Names of outputs of layers alone, such as `model.layers.0`, say that it is not; a list and names
    without numbers say nothing and are believed.

    Raises:
        ValueError: as `ordered_states`.

    Example:
        >>> begins_with_input({"h.0": 0, "h.1": 0}), begins_with_input({"wte": 0, "h.0": 0})
        (False, True)
    """
    if not hasattr(states, "keys"):
        return True
    first = next(iter(order([str(key) for key in states.keys()])), "")
    return first.endswith(_PRE) or _NUMBER.search(first) is None


def _residual(before: Mapping[int, str], after: Mapping[int, str]) -> list[str]:
    """Inputs of all blocks and output of the last; the outputs alone if no input was cached."""
    if not before:
        _complete(after)
        return [after[number] for number in sorted(after)]
    _complete(before)
    last = max(before)
    names = [before[number] for number in sorted(before)]
    if last in after:
        return [*names, after[last]]
    if after and max(after) > last:
        raise ValueError(f"block {max(after)} has an output but no {_PRE}; cache both")
    return names


def _numbered(names: Sequence[str]) -> dict[int, str]:
    """Name by layer number, for names that differ in one number."""
    if not names:
        return {}
    shapes = {_NUMBER.sub("#", name) for name in names}
    columns = list(zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=False))
    varying = [column for column in columns if len(set(column)) > 1] or columns[:1]
    if len(shapes) > 1 or len(varying) > 1:
        shown = ", ".join(sorted(shapes)) if len(shapes) > 1 else ", ".join(names[:3])
        raise ValueError(
            f"these names are not one state per layer: {shown} (# is a number); pass only the "
            "residual states, or a list of them in order"
        )
    return dict(zip(varying[0], names, strict=True))


def _complete(layers: Mapping[int, str]) -> None:
    present = sorted(layers)
    missing = sorted(set(range(present[0], present[-1] + 1)) - set(present))
    if missing:
        raise ValueError(
            f"layer {missing[0]} is missing between {layers[present[0]]} and {layers[present[-1]]}"
        )


def _array(state: Any, name: str) -> NDArray[Any]:
    for wrapper in ("output", "value"):
        if not hasattr(state, "shape") and hasattr(state, wrapper):
            state = getattr(state, wrapper)
    if isinstance(state, tuple):
        state = state[0]
    return to_numpy(state, name)
