"""`server_app`: the HTTP side of a model with a plan."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import check_adaptive_support
from vlm_bridge.model.given import check_vlm, given_plan
from vlm_bridge.model.settings import check_greedy
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.server.answering import Answering
from vlm_bridge.server.auditing import Auditing
from vlm_bridge.server.bodies import Served, error_body, event
from vlm_bridge.server.job import Answer, Failure, Job, Piece, Told
from vlm_bridge.server.request import ChatRequest, RequestError, read_request
from vlm_bridge.server.settings import ServerSettings
from vlm_bridge.server.waiting import Waiting
from vlm_bridge.server.worker import Worker
from vlm_bridge.skip import check_support

#: Seconds after which a refused client may ask again.
_RETRY_AFTER = "1"


def server_app(
    vlm: VLM,
    plan: SkipPlan | AdaptivePlan | str | None = None,
    *,
    settings: ServerSettings | None = None,
    audit: float | None = None,
    monitor: str | Path | None = None,
    epsilon: float | None = None,
) -> FastAPI:
    """The ASGI application that answers chat requests by a model with a plan.

    `POST /v1/chat/completions` takes a request in the form of the OpenAI chat API (`read_request`
    says which fields), `GET /v1/models` names the model with the hash of the plan, `GET /health`
    says how many requests wait. Every reply is JSON, or server-sent events of JSON.

    Concurrent greedy requests for answers of equal length are answered in one batch; a drawn answer
    has a batch of its own. A request that is wrong, too long or cancelled leaves the others as they
    are. Under an adaptive plan an answer is judged when it is whole: its stream has one piece, and
    drawn answers are refused. While a batch runs, the process cannot use the model elsewhere.

    Args:
        vlm: a decoder-only model, with its processor.
        plan: what to skip, in words, too; an adaptive plan; or None for the full model.
        settings: batching and limits.
        audit: share of the greedy requests in (0, 1] that the full model answers, too, afterwards.
        monitor: the file of the `Monitor` to which audits are added; goes with `audit`.
        epsilon: share of changed answers without an alarm; goes with `audit`. Default: that of the
            monitor, .02 if it is new. Give the one that was certified.

    Raises:
        BridgeError: an encoder-decoder, a plan that the model does not support, one of `audit` and
            `monitor` without the other, audits of the full model, or as `Monitor`.

    Example:
        >>> app = server_app(vlm, "freeze 10-29")  # doctest: +SKIP
        >>> uvicorn.run(app, host="127.0.0.1")  # doctest: +SKIP
    """
    plan = _checked(vlm, plan)
    settings = ServerSettings() if settings is None else settings
    if (audit is None) != (monitor is None):
        raise BridgeError("audit, a share, and monitor, the file of its outcomes, go together")
    if epsilon is not None and audit is None:
        raise BridgeError("epsilon is of the alarm about audits; give audit and monitor, too")
    if audit is not None and plan is None:
        raise BridgeError("an audit compares a plan with the full model; give a plan, or no audit")
    audits = None if audit is None or monitor is None else Auditing(vlm, monitor, audit, epsilon)
    waiting = Waiting(settings)
    worker = Worker(waiting, Answering(vlm, plan, settings.prompt_tokens), audits)
    service = Service(Served.of(vlm, plan), settings, waiting, worker, audits)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await run_in_threadpool(worker.close)

    # Without pages of documentation: these would be HTML with scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/v1/chat/completions", service.chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/models", service.models, methods=["GET"], response_model=None)
    app.add_api_route("/health", service.health, methods=["GET"], response_model=None)
    for status in (404, 405):
        app.add_exception_handler(status, _elsewhere)
    app.add_exception_handler(Exception, _failed)
    return app


def _checked(
    vlm: Any, plan: SkipPlan | AdaptivePlan | str | None
) -> SkipPlan | AdaptivePlan | None:
    """The plan; refuses what the model cannot do before any request."""
    check_vlm(vlm)
    if vlm.layout.encoder_decoder:
        raise BridgeError(
            f"{vlm.name} is an encoder-decoder, whose prompt is not part of what it continues; the "
            "server takes decoder-only models"
        )
    check_greedy(vlm.name, vlm.model)
    if plan is None:
        return None
    if isinstance(plan, AdaptivePlan):
        check_adaptive_support(vlm, plan)
        return plan
    fixed = given_plan(vlm, plan)
    check_support(vlm, fixed)
    return fixed


class Service:
    """The three routes."""

    def __init__(
        self,
        served: Served,
        settings: ServerSettings,
        waiting: Waiting,
        worker: Worker,
        audits: Auditing | None,
    ) -> None:
        self._served, self._settings = served, settings
        self._waiting, self._worker, self._audits = waiting, worker, audits

    async def models(self) -> Response:
        """What is served."""
        return JSONResponse(self._served.models())

    async def health(self) -> Response:
        """Whether requests are answered, how many wait, and whether the alarm rang."""
        alive = self._worker.is_alive
        body: dict[str, Any] = {
            "status": "ok" if alive else "closed",
            "model": self._served.name,
            "waiting": len(self._waiting),
            "running": self._worker.running,
        }
        if self._audits is not None:
            alarm = self._audits.alarm
            body["audit"] = {
                "share": self._audits.share,
                "n": alarm.n,
                "changed": alarm.n_changed,
                "rings": alarm.rings,
                "failure": self._audits.failure or None,
            }
        return JSONResponse(body, status_code=200 if alive else 503)

    async def chat(self, request: Request) -> Response:
        """Answer one request."""
        try:
            asked = await self._read(request)
            if not self._worker.was_started:
                raise RequestError(
                    "the application was not started: an ASGI server runs its lifespan, and one "
                    "that mounts it has to do so, too",
                    status=503,
                )
            told: asyncio.Queue[Told] = asyncio.Queue()
            loop = asyncio.get_running_loop()
            name = f"chatcmpl-{uuid.uuid4().hex}"

            def tell(what: Told) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    loop.call_soon_threadsafe(told.put_nowait, what)

            job = Job(name, asked, tell)
            self._waiting.add(job)
        except RequestError as error:
            return _refusal(str(error), error.status, error.field)
        if asked.stream:
            events = self._events(job, told)
            return StreamingResponse(events, media_type="text/event-stream")
        last = await self._last(job, told, request)
        if isinstance(last, Answer):
            return JSONResponse(self._served.completion(name, last))
        return _refusal(last.message, last.status)

    async def _read(self, request: Request) -> ChatRequest:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # which a page of another site cannot send unasked
            raise RequestError("send the body with Content-Type: application/json", status=415)
        most = self._settings.body_bytes
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise RequestError(f"the body has more than {most} bytes", status=413)
        served = self._served
        names = (served.name, served.base)
        asked = await run_in_threadpool(read_request, bytes(body), names, self._settings)
        if asked.sampling is not None and served.gates is not None:
            raise RequestError(
                "'temperature' must be 0: an adaptive plan judges greedy answers",
                field="temperature",
            )
        return asked

    async def _last(
        self, job: Job, told: asyncio.Queue[Told], request: Request
    ) -> Answer | Failure:
        """The answer; the place is freed if the client goes away before."""
        gone = asyncio.ensure_future(_disconnected(request))
        answered = asyncio.ensure_future(told.get())
        try:
            await asyncio.wait({gone, answered}, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                return Failure("the client went away", 499)
            last = answered.result()
            assert not isinstance(last, Piece)  # these are of streams
            return last
        finally:
            gone.cancel()
            answered.cancel()
            self._leave(job)

    async def _events(self, job: Job, told: asyncio.Queue[Told]) -> AsyncIterator[str]:
        """The events of a stream; it is cancelled where the client goes away."""
        served, name = self._served, job.name
        try:
            yield event(served.first_chunk(name))
            while isinstance(what := await told.get(), Piece):
                yield event(served.chunk(name, what.text))
            if isinstance(what, Failure):
                yield event(error_body(what.message, what.status))
            else:
                yield event(served.last_chunk(name, what))
                if job.request.with_usage:
                    yield event(served.usage_chunk(name, what))
            yield "data: [DONE]\n\n"
        finally:
            self._leave(job)

    def _leave(self, job: Job) -> None:
        job.cancelled.set()
        self._waiting.remove(job)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(message: str, status: int, param: str = "") -> Response:
    headers = {"Retry-After": _RETRY_AFTER} if status == 503 else None
    return JSONResponse(error_body(message, status, param), status_code=status, headers=headers)


async def _elsewhere(request: Request, error: Exception) -> Response:
    """The reply to another path or method."""
    text = (
        f"there is no {request.method} {request.url.path}; the server has POST "
        "/v1/chat/completions, GET /v1/models and GET /health"
    )
    return _refusal(text, getattr(error, "status_code", 404))


async def _failed(_: Request, __: Exception) -> Response:
    return _refusal("the server failed; its log says more", 500)
