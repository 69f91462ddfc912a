"""Convert the stored results of `docs/results` to the names that this version reads.

`python docs/convert.py` renames keys and options of recorded commands, and adds what the stored
results left unsaid. It changes no measured number, and a second run changes nothing.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

KEYS = {
    "reads": "requires",
    "passes": "forward_cost",
    "seen": "profiling",
    "promises": "error_rate_check",
    "broken": "wrong",
}
TYPES = {
    "Study": "RuleBenchmark",
    "ModelStudy": "ModelBenchmark",
    "Promises": "ErrorRateCheck",
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "Certificate": {"model": "", "fingerprint": "", "ledger": "", "caveats": []},
    "Comparison": {"model": "", "fingerprint": ""},
    "ModelBenchmark": {"fingerprint": ""},
}
TEXTS = {
    "docs/results/equal-passes": "docs/results/equal-forward-cost",
    "skipit confirm": "skipit claims",
    "out/confirm": "out/claims",
}
OPTIONS = {
    "--seen": "--profiling",
    "--passes": "--forward-cost",
    "--journal": "--checkpoint",
    "--nulls": "--null-images",
    "--batch": "--batch-size",
}


def converted(value: Any) -> Any:
    """The same JSON data under the current names."""
    if isinstance(value, list):
        return [converted(part) for part in value]
    if isinstance(value, str):
        for old, new in TEXTS.items():
            value = value.replace(old, new)
        return re.sub(r"--[a-z][a-z-]*", lambda option: OPTIONS.get(option[0], option[0]), value)
    if not isinstance(value, dict):
        return value
    renamed = {KEYS.get(key, key): converted(part) for key, part in value.items()}
    if isinstance(renamed.get("batch"), int | list):
        renamed = {"batch_size" if key == "batch" else key: v for key, v in renamed.items()}
    if "speed" in renamed:
        speed = renamed.pop("speed") or {}
        renamed |= {key: speed.get(key) for key in ("flops_ratio", "latency_ratio", "device")}
    if "type" in renamed:
        renamed["type"] = TYPES.get(renamed["type"], renamed["type"])
    if renamed.get("type") == "Certificate" and renamed["schema_version"] == 2:
        # The stored rule benchmarks certify the first answer token of labelled questions.
        renamed |= {"schema_version": 3, "max_new_tokens": 1, "share_at_limit": None}
        renamed |= {"n_unlabelled": 0}
    return with_model(renamed)


def with_model(record: dict[str, Any]) -> dict[str, Any]:
    """A plan with its provenance, and records with an empty fingerprint, which is not known."""
    if record.get("type") == "SkipPlan" and record.get("schema_version") == 2:
        source = record.pop("source", {})
        record = {**record, "schema_version": 3} | ({"provenance": source} if source else {})
    if unknown := UNKNOWN.get(str(record.get("type"))):
        record = record | {name: value for name, value in unknown.items() if name not in record}
    return record


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("results/**/*.json")):
        text = path.read_text()
        body = json.loads(text)
        if (new := converted(body)) != body:
            end = text[len(text.rstrip()) :]
            indent = 1 if "\n" in text.rstrip() else None
            path.write_text(json.dumps(new, allow_nan=False, indent=indent) + end)
