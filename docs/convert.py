"""Brings the stored results of `docs/results` to the form that this version reads.

`python docs/convert.py` adds the `origin` of its rule to every `RuleResult` that has none; no
number is touched, and a second run changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlm_bridge.rules import find_rule


def converted(value: Any) -> Any:
    """The same JSON data, with `origin` after `source` in every rule's result."""
    if isinstance(value, list):
        return [converted(one) for one in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, one in value.items():
        found[key] = converted(one)
        if key == "source" and value.get("type") == "RuleResult" and "origin" not in value:
            found["origin"] = find_rule(value["score"]["rule"]).origin
    return found


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("results/**/*.json")):
        text = path.read_text()
        body = json.loads(text)
        if (new := converted(body)) != body:
            end = text[len(text.rstrip()) :]
            path.write_text(json.dumps(new, allow_nan=False) + end)
