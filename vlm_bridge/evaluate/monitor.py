"""`Monitor`: audited outcomes of a served model, with an alarm that seldom rings falsely."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from estimators.record import Record
from theory.certificates import Alarm
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.audit import audited, check_share, request_digest
from vlm_bridge.evaluate.seen import START, Outcome, Seen, chained
from vlm_bridge.runtime.files import read_record, write_record
from vlm_bridge.runtime.locking import locked
from vlm_bridge.runtime.strict_json import parse_json

#: Settings of a new monitor; they are fixed when it is made.
DEFAULTS: Mapping[str, Any] = {"epsilon": 0.02, "alpha": 0.05, "share": 1.0, "salt": ""}
_CHAIN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MonitorState(Record):
    """What a monitor knows, but for the requests that it has seen (`Seen`).

    Attributes:
        alarm: the bettor against "at most epsilon of the answers change", and its alarm.
        share: of all requests that is audited; an outcome of another request is refused.
        salt: of the hash that chooses the audited requests.
        chain: checksum of the requests that were seen, in their order (`chained`).

    Raises:
        ValueError: share outside (0, 1], or a chain that is no checksum.

    Example:
        >>> state = MonitorState.new(epsilon=0.1, alpha=0.05)
        >>> state = state.after([(request_digest("a"), False), (request_digest("b"), True)])
        >>> state.alarm.n, state.alarm.n_changed
        (2, 1)
    """

    SCHEMA_VERSION: ClassVar[int] = 2

    alarm: Alarm
    share: float
    salt: str
    chain: str = START

    def __post_init__(self) -> None:
        check_share(self.share)
        if not _CHAIN.fullmatch(self.chain):
            raise ValueError(f"chain is a SHA-256 in hexadecimal, got {self.chain!r:.70}")

    @classmethod
    def new(cls, **settings: Any) -> MonitorState:
        """A monitor that has seen nothing; `DEFAULTS` lists the settings.

        Raises:
            BridgeError: a setting out of range.
        """
        given = {**DEFAULTS, **settings}
        try:
            alarm = Alarm(given["epsilon"], given["alpha"])
        except (TypeError, ValueError) as error:
            raise BridgeError(str(error)) from None
        request_digest("any", given["salt"])
        return cls(alarm, check_share(given["share"]), given["salt"])

    @property
    def settings(self) -> dict[str, Any]:
        """What was fixed when the monitor was made."""
        of_alarm = {"epsilon": self.alarm.epsilon, "alpha": self.alarm.alpha}
        return {**of_alarm, "share": self.share, "salt": self.salt}

    def after(self, outcomes: Sequence[Outcome]) -> MonitorState:
        """The state after outcomes (digest of the id, changed) of requests that are new."""
        alarm = self.alarm
        for _, changed in outcomes:
            alarm = alarm.after(changed)
        return replace(self, alarm=alarm, chain=chained(self.chain, outcomes))


def new_outcomes(
    outcomes: Iterable[tuple[str, bool]], state: MonitorState, seen: Seen
) -> list[Outcome]:
    """Of outcomes (id, changed) those whose id was not seen, each once, with its digest.

    Raises:
        BridgeError: an id outside the audited share, an id with two different outcomes, or an
            outcome that is neither True nor False.
    """
    new: dict[str, bool] = {}
    for request_id, changed in outcomes:
        digest = request_digest(request_id, state.salt)
        if not isinstance(changed, bool):
            raise BridgeError(
                f"request {shown(request_id)}: changed must be true or false, got {shown(changed)}"
            )
        if not audited(request_id, state.share, salt=state.salt):
            raise BridgeError(
                f"request {shown(request_id)} is not among the audited share {state.share:g}; "
                "audit the requests that `vlm_bridge.audited` chooses"
            )
        before = seen.get(digest)
        if (new.setdefault(digest, changed) if before is None else before) != changed:
            raise BridgeError(
                f"request {shown(request_id)} was seen before with the other outcome; every "
                "request is audited once"
            )
    return list(new.items())


class Monitor:
    """Audits of a served model in a file: resumable, and each request counts once.

    A small random share of the requests (`audited`) is answered by the full model, too; `add` takes
    whether the answers differ. The alarm rings eventually when the rate of changed answers stays
    above 1.008 epsilon: at twice epsilon soon, close to epsilon after tens of thousands of outcomes
    (`theory.certificates.Alarm` says how long). If that rate, given the past, is never above
    epsilon, it rings **at any time at all** with probability at most alpha. What it cannot see it
    assumes: that the outcomes come in the order of the requests, and that none is left out for its
    outcome.

    Args:
        path: the file of the state, a JSON record; made if there is none. Beside it lie the digests
            of the audited requests (`<name>.seen`, 27 bytes each, which only grows) and a lock
            (`<name>.lock`). The first `add` reads those digests into memory, later ones only what
            others have added.
        epsilon: largest share of changed answers without an alarm, in (0, 1); default 0.02.
        alpha: probability of a false alarm, over all time, in (0, 1); default 0.05.
        share: of all requests that is audited, in (0, 1]; default 1.
        salt: of the hash that chooses them; default "".

    Raises:
        BridgeError: a setting out of range, or other than that of the file; a file holds something
            else or a state of an earlier version, was changed, or cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "monitor.json"
        >>> Monitor(path, epsilon=0.05).add([("a", False), ("b", True)]).alarm.n
        2
        >>> Monitor(path).add([("b", True), ("c", True)]).alarm.n  # b is known
        3
    """

    def __init__(
        self,
        path: str | Path,
        *,
        epsilon: float | None = None,
        alpha: float | None = None,
        share: float | None = None,
        salt: str | None = None,
    ) -> None:
        self.path = Path(path)
        asked = {"epsilon": epsilon, "alpha": alpha, "share": share, "salt": salt}
        self._given = {name: value for name, value in asked.items() if value is not None}
        MonitorState.new(**self._given)  # refuses what is out of range before any outcome
        self._seen = Seen(self.path)

    @property
    def state(self) -> MonitorState:
        """What the file holds, or the state of a new monitor."""
        if not self.path.exists():
            return MonitorState.new(**self._given)
        try:
            state = read_record(self.path, MonitorState, "monitor")
        except BridgeError as error:
            raise BridgeError(
                f"{error}; name another file, and add all outcomes again from the first"
            ) from None
        for name, value in self._given.items():
            if value != (stored := state.settings[name]):
                raise BridgeError(
                    f"the monitor {self.path} has {name} {stored!r}, not {value!r}; it was fixed "
                    "when the monitor was made: leave it out, or name another file"
                )
        return state

    def add(self, outcomes: Iterable[tuple[str, bool]]) -> MonitorState:
        """Add outcomes (id, changed) and store the state: all of them, or none.

        The requests are on the disk before the state that counts them takes the place of the
        earlier one. So a process that is killed anywhere leaves the state before or after.

        Raises:
            BridgeError: as `Monitor` and `new_outcomes`; another process holds the file.
        """
        with locked(self.path, "monitor"):
            is_new, state = not self.path.exists(), self.state
            if is_new:
                self._seen.check_new()
            self._seen.read_up_to(state.alarm.n, state.chain)
            new = new_outcomes(outcomes, state, self._seen)
            if is_new:
                write_record(self.path, state)
            if new:
                state = state.after(new)
                self._seen.append(new)
                write_record(self.path, state)
                self._seen.count(new)
        return state


def read_outcome(line: str, where: str) -> tuple[str, bool]:
    """Id and outcome from a line `{"id": TEXT, "changed": true}`; its other fields are ignored.

    Raises:
        BridgeError: another line; the message starts with `where`.

    Example:
        >>> read_outcome('{"id": "a", "changed": false, "model": "m"}', "line 1")
        ('a', False)
    """
    try:
        body = parse_json(line)
    except ValueError as error:
        raise BridgeError(f"{where}: not JSON ({error})") from None
    if not isinstance(body, dict) or not {"id", "changed"} <= set(body):
        raise BridgeError(f'{where}: expected {{"id": TEXT, "changed": true or false}}')
    if not isinstance(body["id"], str) or not body["id"]:
        raise BridgeError(f"{where}: id must be text, got {shown(body['id'])}")
    if not isinstance(body["changed"], bool):
        raise BridgeError(f"{where}: changed must be true or false, got {shown(body['changed'])}")
    return body["id"], body["changed"]
