"""The paper's claim on trained models: results of `skipit claims`, one row for each model.

    python -m benchmarks.claims --results out/claims/claims.json --write docs/results.md

Without `--results` the claim is measured, with the options and checkpoint of `benchmarks.rules`.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._options import add_options, settings_of, sizes_of
from benchmarks._table import show
from estimators import Estimate
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims import (
    ClaimsResult,
    ClaimsSettings,
    ModelClaims,
    check_models,
    joined,
    read_claims,
    write_page,
)
from vlm_bridge.experiments.claims.comparisons import of_origin, our_conditions
from vlm_bridge.experiments.claims.conclusions import conclusions
from vlm_bridge.experiments.rule_benchmark import RuleResult
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.runtime.files import write_record

TITLE = "the claim on trained models"
IMAGES = "images"


def main(arguments: list[str] | None = None) -> None:
    """Read or measure, print, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claims", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--results", nargs="+", type=Path, help="claims.json of earlier runs; models are joined"
    )
    add_options(parser, ClaimsSettings)
    parser.add_argument("--out", type=Path, help="claims.json to write")
    parser.add_argument("--write", type=Path, help="page to write; plots go to images/ beside it")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        result = measured(options)
        if options.out:
            write_record(options.out, result)
        if options.write:
            command = ["python", "-m", "benchmarks.claims", *(arguments or sys.argv[1:])]
            write_page(
                result, options.write, options.write.parent / IMAGES, command=shlex.join(command)
            )
    except BridgeError as error:
        parser.error(str(error))
    if options.json:
        rows = [summary(claims) for claims in result.models]
        print(json.dumps({"title": TITLE, "machine": dict(result.machine), "rows": rows}, indent=1))
        return
    for title, rows in tables(result.models).items():
        show(title, rows)


def measured(options: argparse.Namespace) -> ClaimsResult:
    """The results of earlier runs, or of a new one."""
    if options.results:
        return joined([read_claims(path) for path in options.results])
    return check_models(
        options.models,
        options.data,
        sizes_of(options),
        settings_of(options, ClaimsSettings),
        on_model=_tell,
    )


def _tell(so_far: ClaimsResult) -> None:
    sys.stderr.write(f"{so_far.models[-1].benchmark.model}: done\n")


def summary(claims: ModelClaims) -> dict[str, Any]:
    """One model: accuracies, certified plan and its cost, overlaps, AUC, verdicts."""
    certified, cost = claims.certified, claims.cost
    prefill = None if cost is None else cost.prefill
    decode = None if cost is None else cost.decode
    return {
        "model": claims.benchmark.model,
        "data": claims.data,
        "n_layers": claims.benchmark.n_layers,
        "images": dict(claims.benchmark.n_images),
        "epsilon": claims.benchmark.epsilon,
        "accuracy": _estimate(claims.accuracies.model),
        "blind": _estimate(claims.accuracies.blind),
        "majority": _estimate(claims.accuracies.majority),
        "plan": None if certified is None else certified.tested.plan.describe(),
        "rule": None if certified is None else certified.rule,
        "flops_ratio": None if prefill is None else prefill.flops_ratio,
        "latency_ratio": None if prefill is None else _estimate(prefill.latency_ratio),
        "token_flops_ratio": None if decode is None else decode.flops_ratio,
        "token_latency_ratio": None if decode is None else _estimate(decode.latency_ratio),
        "disagreement": None if certified is None else _estimate(certified.tested.disagreement),
        "drop": None if certified is None else _estimate(certified.tested.drop),
        "jaccard": {
            f"{each.rule}, {each.mode}": {peer.theirs: peer.jaccard for peer in each.peers}
            for each in claims.overlaps
        },
        "auc": {
            mode: {group: _auc(rule) for group, rule in best(claims, mode).items()}
            for mode in claims.benchmark.modes
        },
        "verdicts": {each.clause: each.verdict for each in conclusions(claims)},
    }


def best(claims: ModelClaims, mode: str) -> dict[str, RuleResult | None]:
    """Best AUC of our rules, of published methods with one forward pass, and of all of them."""
    published = of_origin(claims.benchmark.rules_in(mode), "published")
    cheap = [each for each in published if each.score.requires in ("nothing", "forward pass")]
    ours = [each for each in our_conditions(claims.benchmark) if each.score.mode == mode]
    return {"ours": _best(ours), "best_peer_one_pass": _best(cheap), "best_peer": _best(published)}


def _best(results: Sequence[RuleResult]) -> RuleResult | None:
    defined = [each for each in results if not math.isnan(each.score.auc.value)]
    return max(defined, key=lambda each: each.score.auc.value, default=None)


def _auc(result: RuleResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    score = result.score
    return {"rule": score.rule, "requires": score.requires, **(_estimate(score.auc) or {})}


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    """Value, interval ends and n; None if undefined."""
    if estimate is None or math.isnan(estimate.value):
        return None
    low, high = (None if math.isinf(end) else end for end in estimate.interval)
    return {"value": estimate.value, "low": low, "high": high, "n": estimate.n}


def tables(models: Sequence[ModelClaims]) -> dict[str, list[dict[str, str]]]:
    """Tables of all models, by title."""
    by_title = {
        TITLE: [
            {
                "model": claims.benchmark.model,
                "accuracy": bracketed(claims.accuracies.model, ".3f"),
                "blind": bracketed(claims.accuracies.blind, ".3f"),
                **{f"({each.clause})": each.verdict for each in conclusions(claims)},
            }
            for claims in models
        ],
        "certified plans": [_plan(claims) for claims in models],
        "AUC": [row for claims in models for row in _auc_rows(claims)],
        "coincidence": [
            {
                "model": claims.benchmark.model,
                "ranking": f"{each.rule}, {each.mode}",
                "Jaccard index with": ", ".join(
                    f"{peer.theirs} {peer.jaccard:.2f}" for peer in each.peers
                ),
            }
            for claims in models
            for each in claims.overlaps
        ],
    }
    return {title: rows for title, rows in by_title.items() if rows}


def _plan(claims: ModelClaims) -> dict[str, str]:
    tested = None if claims.certified is None else claims.certified.tested
    prefill = None if claims.cost is None else claims.cost.prefill
    return {
        "model": claims.benchmark.model,
        "certified plan": "none" if tested is None else tested.plan.describe(),
        "FLOPs": "-" if prefill is None else f"{prefill.flops_ratio:.2f}",
        "latency": bracketed(None if prefill is None else prefill.latency_ratio),
        "disagreement": bracketed(None if tested is None else tested.disagreement, ".3f"),
        "drop": bracketed(None if tested is None else tested.drop, ".3f"),
    }


def _auc_rows(claims: ModelClaims) -> list[dict[str, str]]:
    """A row for every mode in which an AUC is defined."""
    rows = []
    for mode in claims.benchmark.modes:
        results = best(claims, mode).values()
        if any(results):
            cells = [(r and f"{r.score.rule} {bracketed(r.score.auc)}") or "-" for r in results]
            head = ("ours", "best published, one pass", "best published")
            row = {"model": claims.benchmark.model, "mode": mode}
            rows.append(row | dict(zip(head, cells, strict=True)))
    return rows


if __name__ == "__main__":
    main()
