"""Read the body of a chat request; a refusal names the field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vlm_bridge.data import Item, open_image
from vlm_bridge.data.shapes.messages import read as read_messages
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.errors import BridgeError, first_line, shown
from vlm_bridge.runtime.strict_json import decode_utf8, parse_json
from vlm_bridge.server.settings import ServerSettings

#: Fields that are read.
_READ = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed"),
    *("stream", "stream_options"),
)
#: Fields of the protocol that are not obeyed, with the values that ask for nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "stop": ([],),
    "tools": ([],),
    "top_logprobs": (0,),
}
#: Fields that say who asks, and change no answer.
_NOTES = ("metadata", "user")
#: Below it logits over the temperature may overflow, and the draw is the greedy one anyway.
LEAST_TEMPERATURE = 0.01
_FIELD = re.compile(r"'(messages[^']*)'")
_MOST_SEED = 2**63 - 1


class RequestError(BridgeError):
    """A request that is refused.

    Attributes:
        field: of the body; empty where none is to blame.
        status: the HTTP status.
    """

    def __init__(self, message: str, *, field: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.field, self.status = field, status


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: p_t ~ softmax(logits / temperature), of the likeliest with mass top_p.

    Attributes:
        temperature: above 0.
        top_p: in (0, 1].
        seed: of the draw; None lets the server choose one.
    """

    temperature: float
    top_p: float
    seed: int | None


@dataclass(frozen=True)
class ChatRequest:
    """A chat request, checked.

    Attributes:
        item: the last message of the user, with the earlier turns and all images.
        max_tokens: longest answer.
        sampling: None asks for the greedy answer.
        stream: whether the answer is sent as it grows.
        with_usage: whether a stream ends with the numbers of tokens.
    """

    item: Item
    max_tokens: int
    sampling: Sampling | None = None
    stream: bool = False
    with_usage: bool = False

    @property
    def settings(self) -> tuple[Any, ...] | None:
        """Requests of equal settings may share a batch; None shares none, since it is drawn."""
        return None if self.sampling else (self.item.kinds, self.max_tokens)


class _Sent(Place):
    """A request body, whose images are data: URLs: no file of the server and no address is read."""

    def image(self, value: Any, field: str) -> Any:
        if isinstance(value, str) and not value[:5].lower() == "data:":
            raise self.refusal(
                f"'{field}' is {shown(value)}; the server reads no file and fetches nothing: send "
                "the image itself, as data:image/png;base64,..."
            )
        return super().image(value, field)

    def file(self, name: str, kind: str) -> Path:
        raise self.refusal(f"{shown(name)} names a file; the server reads none")


def read_request(
    body: bytes, model_names: tuple[str, ...], settings: ServerSettings
) -> ChatRequest:
    """The request of a body in the form of the OpenAI chat API.

    Read are `model`, `messages`, `max_tokens` (or `max_completion_tokens`), `temperature` (default
    0: greedy), `top_p`, `seed`, `stream` and `stream_options.include_usage`. Images are `image_url`
    parts with data: URLs. Any other field that would change the answer is refused.

    Args:
        body: UTF-8 JSON.
        model_names: what `model` may be.
        settings: the limits.

    Raises:
        RequestError: no JSON object, or a field that is missing, of another type, out of range or
            not obeyed; the message names it. Status 404 for another model.
    """
    try:
        given = parse_json(decode_utf8(body))
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestError(f"the body must be a JSON object, got {shown(given)}")
    given = {name: value for name, value in given.items() if value is not None}
    _check_fields(given)
    name = given.get("model", model_names[0])
    if name not in model_names:
        known = " or ".join(model_names)
        _refuse("model", f"is {shown(name)}; this server has {known}", status=404)
    stream = _boolean(given, "stream")
    usage = _usage(given)
    if usage and not stream:
        _refuse("stream_options", "is for streams; set 'stream' to true, or leave it out")
    longest = _max_tokens(given, settings)
    sampling = _sampling(given)
    return ChatRequest(_item(given, settings), longest, sampling, stream, usage)


def _refuse(field: str, text: str, *, status: int = 400) -> NoReturn:
    raise RequestError(f"'{field}' {text}", field=field, status=status)


def _check_fields(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _READ or name in _NOTES:
            continue
        if name not in _HARMLESS:
            _refuse(name, f"is not read; the server reads {', '.join(_READ)}")
        if isinstance(value, bool) != isinstance(_HARMLESS[name][0], bool) or (
            value not in _HARMLESS[name]
        ):
            only = _HARMLESS[name][0]
            _refuse(name, f"is not obeyed; leave it out or give {only!r}, got {shown(value)}")


def _boolean(given: Mapping[str, Any], field: str) -> bool:
    value = given.get(field, False)
    if not isinstance(value, bool):
        _refuse(field, f"must be true or false, got {shown(value)}")
    return value


def _usage(given: Mapping[str, Any]) -> bool:
    options = given.get("stream_options", {})
    if not isinstance(options, dict) or not set(options) <= {"include_usage"}:
        _refuse("stream_options", f"has include_usage only, got {shown(options)}")
    if not isinstance(options.get("include_usage", False), bool):
        _refuse("stream_options", f"has include_usage true or false, got {shown(options)}")
    return bool(options.get("include_usage", False))


def _max_tokens(given: Mapping[str, Any], settings: ServerSettings) -> int:
    names = [name for name in ("max_tokens", "max_completion_tokens") if name in given]
    for name in names:
        value = given[name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 1 <= value <= settings.max_tokens:
            most = settings.max_tokens
            _refuse(name, f"must be a whole number from 1 to {most}, got {shown(value)}")
    if len(names) == 2 and given[names[0]] != given[names[1]]:
        _refuse(names[1], f"and '{names[0]}' mean the same and differ; give one")
    return int(given[names[0]]) if names else settings.default_tokens


def _number(given: Mapping[str, Any], field: str, default: float) -> float:
    value = given.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(field, f"must be a number, got {shown(value)}")
    return float(value) if abs(value) < 1e300 else math.inf


def _sampling(given: Mapping[str, Any]) -> Sampling | None:
    temperature, top_p = _number(given, "temperature", 0.0), _number(given, "top_p", 1.0)
    if temperature != 0 and not LEAST_TEMPERATURE <= temperature <= 2:
        _refuse(
            "temperature",
            f"must be 0 (greedy) or lie in [{LEAST_TEMPERATURE}, 2], got "
            f"{shown(given['temperature'])}",
        )
    if not 0 < top_p <= 1:
        _refuse("top_p", f"must lie in (0, 1], got {shown(given['top_p'])}")
    seed = given.get("seed")
    whole = seed is None or (isinstance(seed, int) and not isinstance(seed, bool))
    if not whole or not 0 <= (seed or 0) <= _MOST_SEED:
        _refuse("seed", f"must be a whole number from 0 to {_MOST_SEED}, got {shown(seed)}")
    return Sampling(temperature, top_p, seed) if temperature else None


def _item(given: Mapping[str, Any], settings: ServerSettings) -> Item:
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse("messages", f"must be a list of at least one message, got {shown(messages)}")
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") == "assistant":
        _refuse(f"messages[{len(messages) - 1}].role", "is assistant; the last message is a user's")
    try:
        item = read_messages({"messages": messages}, _Sent("the request", None))
        if (count := len(item.images)) > settings.images:
            _refuse("messages", f"hold {count} images; a request has at most {settings.images}")
        for image in item.images:
            open_image(image)  # a broken one is refused before it waits among others
    except RequestError:
        raise
    except BridgeError as error:
        line = first_line(error)
        found = _FIELD.search(line)
        field = found[1] if found else "messages"
        said = line if found else f"'messages': {line}"
        raise RequestError(said, field=field) from None
    return item
