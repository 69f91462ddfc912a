"""Serve a model with a plan, and ask it from several clients at once.

Needs: pip install 'skipit[vlm,serve]' httpx. Runs in seconds on a CPU and downloads nothing.
"""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx

import vlm_bridge as vb
from vlm_bridge.data import Item, easy_vqa

MODEL, PLAN, CLIENTS = "reference-qwen2.5-vl", "freeze 6-7", 4


def request(item: Item) -> dict[str, object]:
    """The body that any client of the OpenAI chat API would send."""
    data = base64.b64encode(item.image.read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    content = [image, {"type": "text", "text": item.question}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 8}


def main() -> None:
    """Compare what the server says with what the model says under the plan in this process."""
    vlm = vb.load(MODEL)
    items = easy_vqa("test")[:12]
    with vb.skipping(vlm, PLAN):
        expected = vb.answer(vlm, items, max_new_tokens=8)

    with vb.serving(vlm, PLAN) as url, httpx.Client(base_url=url, timeout=60) as client:
        print(f"serving {client.get('/v1/models').json()['data'][0]['id']} at {url}")

        def ask(item: Item) -> dict[str, object]:
            return client.post("/v1/chat/completions", json=request(item)).raise_for_status().json()

        with ThreadPoolExecutor(CLIENTS) as clients:
            replies = list(clients.map(ask, items))

    said = [reply["choices"][0]["message"]["content"] for reply in replies]
    for item, text in zip(items[:4], said, strict=False):
        print(f"  {item.question} {text}")
    print(f"answered by: {replies[0]['skipit']['plan']}")
    assert said == expected, "the server answers as the model does under the plan"
    print(f"{len(said)} answers to {CLIENTS} clients, each that of the model under the plan")


if __name__ == "__main__":
    main()
