"""The paper's claim on trained models: what `skipit claims` found, in one row for each.

    python -m benchmarks.claims --results out/claims/claims.json --write docs/results.md

Without `--results` it is measured, with the options of `benchmarks.rules` and its checkpoint.
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
    ModelClaims,
    check_models,
    conclusions,
    joined,
    read_claims,
    write_claims,
    write_page,
)
from vlm_bridge.experiments.claims.comparisons import of_origin, our_conditions
from vlm_bridge.experiments.rule_benchmark import RuleResult
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.rules import find_rule

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
    add_options(parser)
    parser.add_argument("--null-images", type=int, default=8, help="images of each null (8)")
    parser.add_argument("--tokens", type=int, default=8, help="tokens decoded; 0 leaves it out")
    parser.add_argument("--out", type=Path, help="claims.json to write")
    parser.add_argument("--write", type=Path, help="page to write; plots go to images/ beside it")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        found = measured(options)
        if options.out:
            write_claims(options.out, found)
        if options.write:
            command = ["python", "-m", "benchmarks.claims", *(arguments or sys.argv[1:])]
            write_page(
                found, options.write, options.write.parent / IMAGES, command=shlex.join(command)
            )
    except BridgeError as error:
        parser.error(str(error))
    if options.json:
        rows = [summary(one) for one in found.models]
        print(json.dumps({"title": TITLE, "machine": dict(found.machine), "rows": rows}, indent=1))
        return
    for title, each in tables(found.models).items():
        show(title, each)


def measured(options: argparse.Namespace) -> ClaimsResult:
    """What is in the files, or a run."""
    if options.results:
        return joined([read_claims(path) for path in options.results])
    return check_models(
        options.models,
        data=options.data,
        sizes=sizes_of(options),
        rules=[find_rule(name) for name in options.rules],
        modes=options.modes,
        settings=settings_of(options),
        folder=options.checkpoint,
        null_images=options.null_images,
        tokens=options.tokens,
        on_model=_tell,
    )


def _tell(so_far: ClaimsResult) -> None:
    sys.stderr.write(f"{so_far.models[-1].benchmark.model}: done\n")


def summary(found: ModelClaims) -> dict[str, Any]:
    """One model: accuracies, certified plan and its price, overlaps, AUC, verdicts."""
    certified, speed = found.certified, found.speed
    token = None if speed is None else speed.token
    return {
        "model": found.benchmark.model,
        "data": found.data,
        "n_layers": found.benchmark.n_layers,
        "images": dict(found.benchmark.n_images),
        "epsilon": found.benchmark.epsilon,
        "accuracy": _estimate(found.accuracies.model),
        "blind": _estimate(found.accuracies.blind),
        "majority": _estimate(found.accuracies.majority),
        "plan": None if certified is None else certified.tested.plan.describe(),
        "rule": None if certified is None else certified.rule,
        "flops_ratio": None if speed is None else speed.prefill.flops_ratio,
        "latency_ratio": None if speed is None else _estimate(speed.prefill.latency_ratio),
        "token_flops_ratio": None if token is None else token.flops_ratio,
        "token_latency_ratio": None if token is None else _estimate(token.latency_ratio),
        "disagreement": None if certified is None else _estimate(certified.tested.disagreement),
        "drop": None if certified is None else _estimate(certified.tested.drop),
        "jaccard": {
            f"{one.rule}, {one.mode}": {peer.theirs: peer.jaccard for peer in one.peers}
            for one in found.overlaps
        },
        "auc": {
            mode: {who: _auc(one) for who, one in best(found, mode).items()}
            for mode in found.benchmark.modes
        },
        "verdicts": {one.clause: one.verdict for one in conclusions(found)},
    }


def best(found: ModelClaims, mode: str) -> dict[str, RuleResult | None]:
    """By AUC: our best rule of forward passes, the best method of as much, and of any method."""

    def of_mode(results: Sequence[RuleResult]) -> list[RuleResult]:
        return [one for one in results if one.score.mode == mode]

    peers = of_mode(of_origin(found.benchmark.rules, "published"))
    cheap = [one for one in peers if one.score.requires in ("nothing", "forward pass")]
    ours = of_mode(our_conditions(found.benchmark))
    return {"ours": _best(ours), "best_peer_one_pass": _best(cheap), "best_peer": _best(peers)}


def _best(results: Sequence[RuleResult]) -> RuleResult | None:
    defined = [one for one in results if not math.isnan(one.score.auc.value)]
    return max(defined, key=lambda one: one.score.auc.value, default=None)


def _auc(one: RuleResult | None) -> dict[str, Any] | None:
    if one is None:
        return None
    score = one.score
    return {"rule": score.rule, "requires": score.requires, **(_estimate(score.auc) or {})}


def _estimate(one: Estimate | None) -> dict[str, Any] | None:
    """Value, ends and n; None where the value is not defined."""
    if one is None or math.isnan(one.value):
        return None
    low, high = (None if math.isinf(end) else end for end in one.interval)
    return {"value": one.value, "low": low, "high": high, "n": one.n}


def tables(models: Sequence[ModelClaims]) -> dict[str, list[dict[str, str]]]:
    """The same for people, as tables by title."""
    verdicts = [
        {
            "model": one.benchmark.model,
            "accuracy": bracketed(one.accuracies.model, ".3f"),
            "blind": bracketed(one.accuracies.blind, ".3f"),
            **{f"({said.clause})": said.verdict for said in conclusions(one)},
        }
        for one in models
    ]
    found = {
        TITLE: verdicts,
        "certified plans": [_plan(one) for one in models],
        "AUC": [row for one in models for row in _auc_rows(one)],
        "coincidence": [
            {
                "model": one.benchmark.model,
                "ranking": f"{each.rule}, {each.mode}",
                "Jaccard index with": ", ".join(
                    f"{peer.theirs} {peer.jaccard:.2f}" for peer in each.peers
                ),
            }
            for one in models
            for each in one.overlaps
        ],
    }
    return {title: rows for title, rows in found.items() if rows}


def _plan(one: ModelClaims) -> dict[str, str]:
    tested = None if one.certified is None else one.certified.tested
    prefill = None if one.speed is None else one.speed.prefill
    return {
        "model": one.benchmark.model,
        "certified plan": "none" if tested is None else tested.plan.describe(),
        "FLOPs": "-" if prefill is None else f"{prefill.flops_ratio:.2f}",
        "latency": bracketed(None if prefill is None else prefill.latency_ratio),
        "disagreement": bracketed(None if tested is None else tested.disagreement, ".3f"),
        "drop": bracketed(None if tested is None else tested.drop, ".3f"),
    }


def _auc_rows(one: ModelClaims) -> list[dict[str, str]]:
    """A row for every mode in which an AUC is defined."""
    rows = []
    for mode in one.benchmark.modes:
        found = best(one, mode)
        ours, cheap, peer = (
            each and f"{each.score.rule} {bracketed(each.score.auc)}" for each in found.values()
        )
        if any(found.values()):
            rows.append(
                {
                    "model": one.benchmark.model,
                    "mode": mode,
                    "ours": ours or "-",
                    "best published, one pass": cheap or "-",
                    "best published": peer or "-",
                }
            )
    return rows


if __name__ == "__main__":
    main()
