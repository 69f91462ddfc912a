"""`Monitor`: audited outcomes of a served model, with an alarm that seldom rings falsely."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from estimators.record import Record
from theory.certificates import Alarm
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.audit import audited, check_share, request_digest
from vlm_bridge.runtime.files import read_record, write_record
from vlm_bridge.runtime.locking import locked
from vlm_bridge.runtime.strict_json import parse_json

#: Settings of a new monitor; they are fixed when it is made.
DEFAULTS: Mapping[str, Any] = {"epsilon": 0.02, "alpha": 0.05, "share": 1.0, "salt": ""}


@dataclass(frozen=True)
class MonitorState(Record):
    """What a monitor knows.

    Attributes:
        alarm: the bettor against "at most epsilon of the answers change", and its alarm.
        share: of all requests that is audited; an outcome of another request is refused.
        salt: of the hash that chooses the audited requests.
        seen: digest of each audited id (`request_digest`), and whether its answer changed.

    Raises:
        ValueError: share outside (0, 1], or counts that contradict the alarm.

    Example:
        >>> state = MonitorState.new(epsilon=0.1, alpha=0.05)
        >>> state = state.after([("a", False), ("b", True), ("a", False)])
        >>> state.alarm.n, state.alarm.n_changed
        (2, 1)
    """

    alarm: Alarm
    share: float
    salt: str
    seen: Mapping[str, bool]

    def __post_init__(self) -> None:
        check_share(self.share)
        if (len(self.seen), sum(self.seen.values())) != (self.alarm.n, self.alarm.n_changed):
            raise ValueError(
                f"{len(self.seen)} outcomes are seen, but the alarm has counted {self.alarm.n}"
            )

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
        return cls(alarm, check_share(given["share"]), given["salt"], {})

    @property
    def settings(self) -> dict[str, Any]:
        """What was fixed when the monitor was made."""
        of_alarm = {"epsilon": self.alarm.epsilon, "alpha": self.alarm.alpha}
        return {**of_alarm, "share": self.share, "salt": self.salt}

    def after(self, outcomes: Iterable[tuple[str, bool]]) -> MonitorState:
        """The state after outcomes (id, changed) in the order in which requests were served.

        An id that was seen before counts once.

        Raises:
            BridgeError: an id outside the audited share, an id with two different outcomes, or an
                outcome that is neither True nor False.
        """
        alarm, seen = self.alarm, dict(self.seen)
        for request_id, changed in outcomes:
            digest = request_digest(request_id, self.salt)
            if not isinstance(changed, bool):
                raise BridgeError(
                    f"request {shown(request_id)}: changed must be true or false, got "
                    f"{shown(changed)}"
                )
            if not audited(request_id, self.share, salt=self.salt):
                raise BridgeError(
                    f"request {shown(request_id)} is not among the audited share "
                    f"{self.share:g}; audit the requests that `vlm_bridge.audited` chooses"
                )
            if seen.setdefault(digest, changed) != changed:
                raise BridgeError(
                    f"request {shown(request_id)} was seen before with the other outcome; every "
                    "request is audited once"
                )
            if len(seen) > alarm.n:
                alarm = alarm.after(changed)
        return replace(self, alarm=alarm, seen=seen)


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
        path: the file of the state, a JSON record; made if there is none.
        epsilon: largest share of changed answers without an alarm, in (0, 1); default 0.02.
        alpha: probability of a false alarm, over all time, in (0, 1); default 0.05.
        share: of all requests that is audited, in (0, 1]; default 1.
        salt: of the hash that chooses them; default "".

    Raises:
        BridgeError: a setting out of range, or other than that of the file; the file holds
            something else or a state of an earlier version, was changed, or cannot be written.

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

        Raises:
            BridgeError: as `Monitor` and `MonitorState.after`; another process holds the file.
        """
        with locked(self.path, "monitor"):
            state = self.state.after(outcomes)
            write_record(self.path, state)
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
