"""`skipit monitor`: audited outcomes of a served model, and an alarm."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from typer import Argument, Option

from vlm_bridge.cli.as_json import CheckFailed
from vlm_bridge.cli.output import say
from vlm_bridge.data.jsonl import decoded_lines
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.monitor import Monitor, read_outcome


def monitor(
    outcomes: Annotated[
        str, Argument(help="JSONL of {id, changed}, in the order of the requests; - reads stdin.")
    ],
    epsilon: Annotated[
        float | None, Option(help="Share of changed answers without an alarm (default: 0.02).")
    ] = None,
    alpha: Annotated[
        float | None, Option(help="Probability of a false alarm, over all time (default: 0.05).")
    ] = None,
    share: Annotated[
        float | None,
        Option(
            help="Share of all requests that is audited, chosen by the hash of the id (default: "
            "1); an outcome of another request is refused."
        ),
    ] = None,
    salt: Annotated[str | None, Option(help="Text in the hash (default: none).")] = None,
    every: Annotated[int, Option(min=1, help="Lines between two stores of the state.")] = 1000,
    check: Annotated[
        bool, Option("--check", help="Exit with code 1 if the alarm has ever rung.")
    ] = False,
    out: Annotated[
        Path,
        Option(
            help="State: read first, if there, then written; the requests that were seen lie "
            "beside it, in OUT.seen."
        ),
    ] = Path("out/monitor.json"),
) -> Any:
    """Watch a served plan: an alarm if it changes too many answers. Resumable.

    For each audited request the server asks the full model, too, and writes one line:
    {"id": "request-17", "changed": false}. `vlm_bridge.audited` chooses the requests: those whose
    SHA-256 of salt, a NUL and id, read as a fraction, lies below --share.

    The alarm rings falsely with probability at most --alpha, however often it is looked at. A rate
    that stays above 1.008 times --epsilon rings it in the end; the closer, the later. It is not
    taken back: after a repair start another monitor. A request that is read twice counts
    once, so a command that was killed can be given the same lines again. The settings are fixed by
    the first command.

    Example: `skipit monitor audits.jsonl --epsilon 0.05 --share 0.01`

    Example: `tail -f audits.jsonl | skipit monitor - --every 1`
    """
    watched = Monitor(out, epsilon=epsilon, alpha=alpha, share=share, salt=salt)
    state = watched.state
    rang = state.alarm.rings
    with _opened(outcomes) as handle:
        name = "standard input" if outcomes == "-" else outcomes
        lines = (
            read_outcome(line, f"{name}:{number}")
            for number, line in decoded_lines(handle, name)
            if line.strip()
        )
        while block := list(islice(lines, every)):
            state = watched.add(block)
            if state.alarm.rings and not rang:
                rang = True
                say(state.alarm.sentence())
    if not state.alarm.n:
        raise BridgeError(f"{name} holds no outcomes, and there is no monitor at {out}")
    say(state.alarm.sentence())
    say(f"monitor: {out}")
    result = {
        "rings": state.alarm.rings,
        "alarm": state.alarm.to_json(),
        "share": state.share,
        "salt": state.salt,
    }
    if check and state.alarm.rings:
        raise CheckFailed(result)
    return result


@contextlib.contextmanager
def _opened(outcomes: str) -> Iterator[BinaryIO]:
    """The bytes of a file, or of standard input for `-`."""
    if outcomes == "-":
        yield sys.stdin.buffer
        return
    try:
        handle = Path(outcomes).open("rb")
    except (OSError, ValueError):
        raise BridgeError(f"no file of outcomes at {outcomes}; - reads standard input") from None
    with handle:
        yield handle
