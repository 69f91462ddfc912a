"""A command replaces an earlier result of its own kind, and no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError

#: What the first file that a command writes holds, by its command.
RESULTS = {
    "adaptive": "a run of an adaptive plan",
    "adaptive search": "an adaptive search",
    "certify": "certificates",
    "certify --anytime": "a growing certificate",
    "certify --per": "certificates of groups",
    "certify --risks": "a certificate of risks",
    "claims": "results on the claim",
    "compare": "a comparison",
    "compare --items": "answered items",
    "cost": "a cost",
    "demo": "results of a demo",
    "method": "the result of a method",
    "monitor": "a monitor",
    "plan": "a plan",
    "profile": "a profile",
    "report": "a report",
    "report of a run": "the page of a run",
    "report of a survey": "the page of a survey",
    "reproduce": "a reproduction",
    "run": "a run",
    "search": "a search",
    "slopes": "slopes",
    "survey": "a survey",
    "sweep": "a sweep",
}
#: The same by the type of the stored record.
_RECORDS = {
    "AdaptivePlan": "an adaptive plan",
    "AnsweredItem": "answered items",
    "Certificate": "a certificate",
    "CertifiedAdaptive": "an adaptive search",
    "CertifiedByToken": "an adaptive search",
    "CertifiedPlan": "a search",
    "ClaimsResult": "results on the claim",
    "DemoResults": "results of a demo",
    "GroupsOfPlan": "certificates of groups",
    "GrowingCertificate": "a growing certificate",
    "Ledger": "a ledger",
    "MethodResult": "the result of a method",
    "MonitorState": "a monitor",
    "Profile": "a profile",
    "RisksOfPlan": "a certificate of risks",
    "Reproduction": "a reproduction",
    "SkipPlan": "a plan",
    "Slopes": "slopes",
    "Survey": "a survey",
    "WholePath": "a run",
}
#: The same by a key of a result that is no record.
_KEYS = {
    "comparison": "a comparison",
    "cost": "a cost",
    "lossless": "a cost",
    "measured": "a run of an adaptive plan",
}
_LISTS = {"Certificate": "certificates", "Comparison": "a sweep"}
#: What else to do than name another file, by what is found.
_ADVICE = {"a growing certificate": ", or give --anytime, which continues it"}
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")


def check_replaceable(command: str, results: Sequence[Path], option: str = "--out") -> None:
    """Raise a `BridgeError` if a result of `command` would replace a file of another kind.

    `option` is the one that names the results.

    Of `results` the first is the main one. The others are replaced only beside an earlier main one:
    a run writes it first, so without it they are of something else.
    """
    main, *others = results
    if command not in RESULTS:  # it writes a new folder
        return
    if main.is_file():
        wanted, found = RESULTS[command], held_in(main)
        if found not in (wanted, "nothing"):
            advice = _ADVICE.get(found, "") if command.startswith("certify") else ""
            raise BridgeError(
                f"{option} would replace {main}, which holds {found}, by {wanted}; name another "
                f"{option}{advice}"
            )
        return
    for path in others:
        if path.is_file():
            raise BridgeError(
                f"--out would replace {path}, which is of no earlier run, because {main} does not "
                "exist; name another --out"
            )


def held_in(path: Path) -> str:
    """What a file holds, in words: "a ledger", "a plan", "an image", "nothing", "something else".

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "out.json"
    >>> _ = path.write_text('{"type": "SkipPlan"}')
    >>> held_in(path)
    'a plan'
    """
    try:
        data = path.read_bytes()
    except OSError:  # what cannot be read is refused by the writer
        return "something else"
    if not data.strip():
        return "nothing"
    if data.startswith(_IMAGES):
        return "an image"
    if data.lstrip().startswith(b"<!doctype html>") and b"Which layers can be skipped" in data:
        return "a report"
    for title, kind in ((b"Survey", "a survey"), (b"Run", "a run")):
        if data.lstrip().startswith(b"<!doctype html>") and b"<title>%s: " % title in data:
            return f"the page of {kind}"
    return _held(_parsed(data))


def _parsed(data: bytes) -> Any:
    """The JSON of a file, else that of its first line, else None."""
    for text in (data, data.split(b"\n", 1)[0]):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            continue
    return None


def _held(body: Any) -> str:
    """What JSON data are, in words."""
    names, other = _RECORDS, "something else"
    if isinstance(body, list) and body:
        body, names = body[0], _LISTS
    if not isinstance(body, dict):
        return other
    kind = body.get("type")
    if isinstance(kind, str):
        return names.get(kind, other)
    for name, whole in _KEYS.items():
        if name in body:
            return whole
    return "questions" if {"image", "question"} <= set(body) else other
