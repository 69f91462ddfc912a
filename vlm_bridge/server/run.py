"""`serve` runs the server until it is stopped, `serving` inside a block."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn

from vlm_bridge.errors import BridgeError, first_line, shown
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.server.app import server_app
from vlm_bridge.server.settings import ServerSettings

#: Addresses that only this machine reaches.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Seconds that running requests get to end when the server is stopped.
_GRACE = 30


def serve(
    vlm: VLM,
    plan: SkipPlan | AdaptivePlan | str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: ServerSettings | None = None,
    audit: float | None = None,
    monitor: str | Path | None = None,
    epsilon: float | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve a model with a plan over HTTP until the process is interrupted or terminated.

    `server_app` says what it answers, and describes the other arguments. There is no password and
    no encryption: by default only this machine reaches the server. When it is stopped, it takes no
    more requests, gives those that run 30 seconds to end, and returns.

    Args:
        vlm: a decoder-only model, with its processor.
        plan: what to skip; None serves the full model.
        host: the address to listen at.
        port: the TCP port, 0 for any that is free.
        settings: batching and limits.
        audit: share of the greedy requests that the full model answers, too.
        monitor: the file of the `Monitor` of the audits.
        epsilon: share of changed answers without an alarm.
        on_listening: called with the address once requests can come.

    Raises:
        BridgeError: an address or port at which one cannot listen, or as `server_app`.

    Example:
        >>> serve(vb.load("reference"), "freeze 10-29")  # doctest: +SKIP
    """
    app = server_app(vlm, plan, settings=settings, audit=audit, monitor=monitor, epsilon=epsilon)
    # uvicorn passes Ctrl-C on when it has ended.
    with _bound(host, port) as listening, contextlib.suppress(KeyboardInterrupt):
        where = f"[{host}]" if ":" in host else host
        if on_listening is not None:
            on_listening(f"http://{where}:{listening.getsockname()[1]}")
        _server(app, "info").run(sockets=[listening])


@contextlib.contextmanager
def serving(
    vlm: VLM,
    plan: SkipPlan | AdaptivePlan | str | None = None,
    *,
    settings: ServerSettings | None = None,
    audit: float | None = None,
    monitor: str | Path | None = None,
    epsilon: float | None = None,
) -> Iterator[str]:
    """Serve inside the block, at a free port of this machine, from a thread of its own.

    Args:
        vlm: as of `serve`, as are the others.
        plan: as of `serve`.
        settings: as of `serve`.
        audit: as of `serve`.
        monitor: as of `serve`.
        epsilon: as of `serve`.

    Yields:
        The address, such as `http://127.0.0.1:40123`.

    Raises:
        BridgeError: as `serve`.

    Example:
        >>> with serving(vlm, "freeze 10-29") as url:  # doctest: +SKIP
        ...     httpx.get(f"{url}/v1/models").json()
    """
    app = server_app(vlm, plan, settings=settings, audit=audit, monitor=monitor, epsilon=epsilon)
    with _bound(LOOPBACK[0], 0) as listening:
        server = _server(app, "warning")
        thread = Thread(target=server.run, args=([listening],), name="skipit-http", daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://{LOOPBACK[0]}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _server(app: Any, log_level: str) -> uvicorn.Server:
    config = uvicorn.Config(app, log_level=log_level, timeout_graceful_shutdown=_GRACE)
    return uvicorn.Server(config)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens at an address, closed at the end of its block."""
    number: Any = port
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**16:
        raise BridgeError(f"port must be a whole number from 0 to 65535, got {shown(port)}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        raise BridgeError(
            f"cannot listen at {host} port {port}: {first_line(error)}; name another --host or "
            "--port"
        ) from None
