"""Results of the registered protocol: joins runs of `skipit claims`, judges and writes the page.

    python -m benchmarks.claims --results out/*/claims.json --write docs/results.md

Runs of one name are seeds of one model. Holm's correction is over all tests of all models that are
joined; results of different versions of docs/protocol.md are refused.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._table import show
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims import joined, judge, overall, read_claims
from vlm_bridge.experiments.claims.page import write_page
from vlm_bridge.experiments.claims.verdicts import Overall, Verdict
from vlm_bridge.runtime.files import write_record

TITLE = "the registered protocol"
IMAGES = "images"


def main(arguments: list[str] | None = None) -> None:
    """Read, judge, print, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claims", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--results", nargs="+", type=Path, required=True, help="claims.json of earlier runs"
    )
    parser.add_argument("--out", type=Path, help="claims.json of all of them to write")
    parser.add_argument("--write", type=Path, help="page to write; figures go to images/ beside it")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    options = parser.parse_args(arguments)
    try:
        result = joined([read_claims(path) for path in options.results])
        verdicts = judge(result.models)
        if options.out:
            write_record(options.out, result)
        if options.write:
            command = ["python", "-m", "benchmarks.claims", *(arguments or sys.argv[1:])]
            images = options.write.parent / IMAGES
            write_page(result, options.write, images, command=shlex.join(command))
    except BridgeError as error:
        parser.error(str(error))
    over = overall(verdicts)
    if options.json:
        rows = {"over models": [asdict(each) for each in over]}
        rows["by model"] = [asdict(each) for each in verdicts]
        print(json.dumps({"title": TITLE, "machine": dict(result.machine), **rows}, indent=1))
        return
    show(f"{TITLE}, over models", [_over(each) for each in over])
    if verdicts:
        show(f"{TITLE}, by model", [_row(each) for each in verdicts])


def _over(each: Overall) -> dict[str, Any]:
    return {"clause": each.clause, "verdict": each.verdict, "because": each.reason}


def _row(each: Verdict) -> dict[str, Any]:
    return {
        "clause": each.clause,
        "model": each.model,
        "verdict": each.verdict,
        "p": f"{each.adjusted:.2g}",
        "p, opposite": f"{each.adjusted_opposite:.2g}",
        "because": "; ".join(each.reasons),
    }


if __name__ == "__main__":
    main()
