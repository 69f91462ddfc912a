"""The bodies of replies, in the form of the OpenAI chat API."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.server.job import Answer


@dataclass(frozen=True)
class Served:
    """What a server serves.

    Attributes:
        name: the id of the model: its name, `@`, and the start of the plan's hash, or `full`.
        base: the name of the model alone, which requests may give, too.
        plan: the plan in words.
        plan_hash: of the plan; None for the full model.
        gates: number of gates of an adaptive plan; None for others.
        started: Unix time in seconds.
    """

    name: str
    base: str
    plan: str
    plan_hash: str | None
    gates: int | None
    started: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, vlm: VLM, plan: SkipPlan | AdaptivePlan | None) -> Served:
        """The model under a plan, None for the full model."""
        if plan is None:
            return cls(f"{vlm.name}@full", vlm.name, "the full model", None, None)
        whole = plan.hash()
        words = plan.describe(vlm.layout.modality)
        gates = len(plan.gates) if isinstance(plan, AdaptivePlan) else None
        return cls(f"{vlm.name}@{whole[:12]}", vlm.name, words, whole, gates)

    def about(self, answer: Answer | None = None) -> dict[str, Any]:
        """Which plan answered and, of an adaptive plan, at which gate."""
        body: dict[str, Any] = {"plan": self.plan, "plan_hash": self.plan_hash}
        if answer is not None and self.gates is not None:
            body |= {"gate": answer.gate, "full_model": answer.gate == self.gates}
        if answer is not None and answer.seed is not None:
            body["seed"] = answer.seed
        return body

    def models(self) -> dict[str, Any]:
        """The reply of /v1/models."""
        model = {"id": self.name, "object": "model", "created": self.started, "owned_by": "skipit"}
        return {"object": "list", "data": [{**model, "skipit": self.about()}]}

    def completion(self, name: str, answer: Answer) -> dict[str, Any]:
        """The reply to a request that is not streamed."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": None,
            "finish_reason": answer.finish,
        }
        return {
            **self._head(name, "chat.completion"),
            "choices": [choice],
            "usage": _usage(answer),
            "skipit": self.about(answer),
        }

    def first_chunk(self, name: str) -> dict[str, Any]:
        """The start of a stream."""
        return self._chunk(name, {"role": "assistant", "content": ""})

    def chunk(self, name: str, text: str) -> dict[str, Any]:
        """A piece of a stream."""
        return self._chunk(name, {"content": text})

    def last_chunk(self, name: str, answer: Answer) -> dict[str, Any]:
        """The end of a stream, with the plan."""
        return {**self._chunk(name, {}, answer.finish), "skipit": self.about(answer)}

    def usage_chunk(self, name: str, answer: Answer) -> dict[str, Any]:
        """The numbers of tokens of a stream."""
        return {
            **self._head(name, "chat.completion.chunk"),
            "choices": [],
            "usage": _usage(answer),
        }

    def _chunk(self, name: str, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head(name, "chat.completion.chunk"), "choices": [choice]}

    def _head(self, name: str, kind: str) -> dict[str, Any]:
        return {"id": name, "object": kind, "created": int(time.time()), "model": self.name}


def error_body(message: str, status: int, param: str = "") -> dict[str, Any]:
    """The body of a refusal; `param` is the field of the request that is to blame.

    Example:
        >>> error_body("'n' is not obeyed", 400, "n")["error"]["param"]
        'n'
    """
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {"message": message, "type": kind, "param": param or None, "code": str(status)}
    }


def event(body: dict[str, Any]) -> str:
    """A server-sent event of a body; text of other scripts is escaped, so that it is one line."""
    return f"data: {json.dumps(body)}\n\n"


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens + answer.tokens,
    }
