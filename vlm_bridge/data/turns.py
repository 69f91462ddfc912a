"""Turns of a dialogue: a role, and text and images in order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from vlm_bridge.data.picture import ImageRef, image_ref
from vlm_bridge.errors import BridgeError, shown

#: A part of a prompt: text, or an image.
Part: TypeAlias = str | ImageRef
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says: text, and images if it is the user.

    Attributes:
        role: `system`, `user` or `assistant`.
        parts: text and images in order; text alone may be given as it is.

    Raises:
        BridgeError: another role, nothing said, or an image that the user does not show.

    Example:
        >>> from pathlib import Path
        >>> Turn("user", (Path("a.png"), "what is it?")).role, Turn("assistant", "a cat").parts
        ('user', ('a cat',))
    """

    role: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise BridgeError(f"a turn is of {', '.join(ROLES)}, got {shown(self.role)}")
        given: Any = self.parts
        parts = given_parts((given,) if isinstance(given, str) else given)
        if not parts:
            raise BridgeError(f"a turn of the {self.role} says nothing; leave it out")
        if self.role != "user" and not all(isinstance(part, str) for part in parts):
            raise BridgeError(f"a turn of the {self.role} is text alone, and it has an image")
        object.__setattr__(self, "parts", parts)


def given_parts(parts: Any) -> tuple[Part, ...]:
    """Text and images in order, without empty texts; a path must be a `Path`."""
    if isinstance(parts, str | bytes | os.PathLike) or not isinstance(parts, Iterable):
        raise BridgeError(f"parts are a list of texts and images, got {shown(parts)}")
    found: list[Part] = []
    for part in parts:
        if isinstance(part, str):
            check_text("text", part)
            found += [part] if part.strip() else []
        else:
            found.append(image_ref(part))
    return tuple(found)


def check_turns(turns: Any) -> tuple[Turn, ...]:
    """The turns before a question; a system message comes first, and once."""
    if isinstance(turns, Turn | str) or not isinstance(turns, Iterable):
        raise BridgeError(f"turns are a list of Turn, got {shown(turns)}")
    listed = tuple(turns)
    for place, turn in enumerate(listed):
        if not isinstance(turn, Turn):
            raise BridgeError(f"turns[{place}] is no Turn but {shown(turn)}")
        if turn.role == "system" and place:
            raise BridgeError("a system message comes first, and once")
    return listed


def check_text(name: str, value: Any) -> None:
    """Refuse what is no Unicode text; half a surrogate pair cannot be encoded."""
    try:
        if not isinstance(value, str):
            raise BridgeError(f"the {name} of an item is text, got {shown(value)}")
        value.encode()
    except UnicodeEncodeError:
        raise BridgeError(f"the {name} {shown(value)} holds half a surrogate pair") from None
