"""One request in service, and what the worker tells the one who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import TypeAlias

from vlm_bridge.server.request import ChatRequest


@dataclass(frozen=True)
class Piece:
    """What an answer that is streamed has grown by."""

    text: str


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        text: without special tokens and outer white space.
        finish: "stop" if it ended, "length" if it was cut at `max_tokens`.
        prompt_tokens: of the prompt, images included, without padding.
        tokens: of the answer, its end included.
        gate: of an adaptive plan, the number of the gate at which the answer stood, from 0; the
            number of gates where the full model gave it. None for other plans.
        seed: of a drawn answer.
    """

    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    gate: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Failure:
    """Why there is no answer, and the HTTP status that says so."""

    message: str
    status: int


Told: TypeAlias = Piece | Answer | Failure


@dataclass(eq=False)
class Job:
    """One request in service.

    Attributes:
        name: the id of the request.
        request: what is asked.
        tell: called by the worker, from its thread; an `Answer` or a `Failure` comes last.
        cancelled: set by the one who waits when nobody waits any more.
        has_told: whether anything was told, so that it cannot be run again.
        last: the last thing, once it was told.
    """

    name: str
    request: ChatRequest
    tell: Callable[[Told], None]
    cancelled: Event = field(default_factory=Event)
    has_told: bool = False
    last: Answer | Failure | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be told any more."""
        return self.last is not None or self.cancelled.is_set()

    def say(self, what: Told) -> None:
        """Tell it, unless the last thing was told."""
        if self.last is None:
            self.has_told = True
            self.last = None if isinstance(what, Piece) else what
            self.tell(what)
