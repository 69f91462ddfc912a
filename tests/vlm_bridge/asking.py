"""Requests to a server: bodies about small pictures, and what comes back."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from PIL import Image

from vlm_bridge.data import Item, open_image

CHAT = "/v1/chat/completions"


def data_url(image: Image.Image) -> str:
    """A PNG of an image as a data: URL."""
    held = io.BytesIO()
    image.save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def message(item: Item, role: str = "user") -> dict[str, Any]:
    """The last message of an item."""
    parts: list[dict[str, Any]] = []
    for part in item.dialogue[-1].parts:
        if isinstance(part, str):
            parts.append({"type": "text", "text": part})
        else:
            parts.append({"type": "image_url", "image_url": {"url": data_url(open_image(part))}})
    return {"role": role, "content": parts}


def body(item: Item, **fields: Any) -> dict[str, Any]:
    """A request for the greedy answer to an item of one turn."""
    return {"messages": [message(item)], "max_tokens": 8, **fields}


def text_of(reply: httpx.Response) -> str:
    """The answer of a reply that is not streamed."""
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def events_of(text: str) -> list[dict[str, Any]]:
    """The bodies of a stream, which ends as it should."""
    lines = [line for line in text.split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def streamed(text: str) -> str:
    """The pieces of a stream, joined."""
    choices = [choice for event in events_of(text) for choice in event["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


@contextlib.asynccontextmanager
async def inside(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this process, without a socket."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client
