"""The stacks of layers that a plan may be about: the decoder, and the encoders beside it."""

from __future__ import annotations

from collections.abc import Callable

from vlm_bridge.errors import BridgeError, shown

#: Name of a stack in plans -> its name in sentences, in the order in which a model runs them.
STACKS = {
    "vision": "vision encoder",
    "audio": "audio encoder",
    "encoder": "text encoder",
    "decoder": "decoder",
}
DECODER = "decoder"

#: Number of layers of the decoder, or a function that gives that of each stack by name.
Depths = int | Callable[[str], int]


def depth_in(stack: str, depths: Depths) -> int:
    """Number of layers of a stack.

    Raises:
        BridgeError: only the decoder's number is given, and the stack is another one.

    Example:
        >>> depth_in("decoder", 6)
        6
        >>> depth_in("vision", 6)
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: a plan of the stack 'vision' needs its number of layers, ...
    """
    if callable(depths):
        return depths(stack)
    if stack != DECODER:
        raise BridgeError(
            f"a plan of the stack {shown(stack)} needs its number of layers, and only the "
            "decoder's is given; give vlm.layout.depth"
        )
    return depths
