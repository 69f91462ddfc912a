"""The paper's claim on trained models: what `skipit confirm` found, in one row for each.

    python -m benchmarks.confirm --results out/confirm/confirm.json --write docs/results.md

Without `--results` it is measured, with the options of `benchmarks.rules` and its journal.
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

from benchmarks._study import add_options, settings_of, sizes_of
from benchmarks._table import show
from estimators import Estimate
from vlm_bridge.confirm import (
    Confirmation,
    ModelConfirmation,
    conclusions,
    confirm,
    joined,
    read_confirmation,
    write_confirmation,
    write_page,
)
from vlm_bridge.confirm.roles import of_role, our_conditions
from vlm_bridge.errors import BridgeError
from vlm_bridge.rules import find_rule
from vlm_bridge.study import RuleResult

TITLE = "the claim on trained models"
IMAGES = "images"


def main(arguments: list[str] | None = None) -> None:
    """Read or measure, print, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.confirm", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--results", nargs="+", type=Path, help="confirm.json of earlier runs; models are joined"
    )
    add_options(parser)
    parser.add_argument("--nulls", type=int, default=8, help="images of each null (8)")
    parser.add_argument("--tokens", type=int, default=8, help="tokens decoded; 0 leaves it out")
    parser.add_argument("--out", type=Path, help="confirm.json to write")
    parser.add_argument("--write", type=Path, help="page to write; plots go to images/ beside it")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        found = measured(options)
        if options.out:
            write_confirmation(options.out, found)
        if options.write:
            command = ["python", "-m", "benchmarks.confirm", *(arguments or sys.argv[1:])]
            write_page(
                found, options.write, options.write.parent / IMAGES, command=shlex.join(command)
            )
    except BridgeError as error:
        parser.error(str(error))
    rows = [summary(one) for one in found.models]
    if options.json:
        print(json.dumps({"title": TITLE, "machine": dict(found.machine), "rows": rows}, indent=1))
        return
    for title, each in tables(rows).items():
        show(title, each)


def measured(options: argparse.Namespace) -> Confirmation:
    """What is in the files, or a run."""
    if options.results:
        return joined([read_confirmation(path) for path in options.results])
    return confirm(
        options.models,
        data=options.data,
        sizes=sizes_of(options),
        rules=[find_rule(name) for name in options.rules],
        modes=options.modes,
        settings=settings_of(options),
        folder=options.journal,
        null_images=options.nulls,
        tokens=options.tokens,
        told=_tell,
    )


def _tell(so_far: Confirmation) -> None:
    sys.stderr.write(f"{so_far.models[-1].study.model}: done\n")


def summary(found: ModelConfirmation) -> dict[str, Any]:
    """One model: accuracies, certified plan and its price, overlaps, AUC, verdicts."""
    promise, speed = found.promise, found.speed
    token = None if speed is None else speed.token
    return {
        "model": found.study.model,
        "data": found.data,
        "n_layers": found.study.n_layers,
        "images": dict(found.study.n_images),
        "epsilon": found.study.epsilon,
        "accuracy": _estimate(found.accuracies.model),
        "blind": _estimate(found.accuracies.blind),
        "majority": _estimate(found.accuracies.majority),
        "plan": None if promise is None else promise.tested.plan.describe(),
        "rule": None if promise is None else promise.rule,
        "flops_ratio": None if speed is None else speed.prefill.flops_ratio,
        "latency_ratio": None if speed is None else _estimate(speed.prefill.latency_ratio),
        "token_flops_ratio": None if token is None else token.flops_ratio,
        "token_latency_ratio": None if token is None else _estimate(token.latency_ratio),
        "disagreement": None if promise is None else _estimate(promise.tested.disagreement),
        "drop": None if promise is None else _estimate(promise.tested.drop),
        "jaccard": {
            f"{one.rule}, {one.mode}": {peer.theirs: peer.jaccard for peer in one.peers}
            for one in found.overlaps
        },
        "auc": {mode: aucs(found, mode) for mode in found.study.modes},
        "verdicts": {one.clause: one.verdict for one in conclusions(found)},
    }


def aucs(found: ModelConfirmation, mode: str) -> dict[str, Any]:
    """AUC of our best rule of forward passes, of the best method of as much, and of any method."""

    def of_mode(results: Sequence[RuleResult]) -> list[RuleResult]:
        return [one for one in results if one.score.mode == mode]

    peers = of_mode(of_role(found.study.rules, "peer"))
    cheap = [one for one in peers if one.score.reads in ("nothing", "forward pass")]
    ours = of_mode(our_conditions(found.study))
    return {"ours": _best(ours), "best_peer_one_pass": _best(cheap), "best_peer": _best(peers)}


def _best(results: Sequence[RuleResult]) -> dict[str, Any] | None:
    defined = [one for one in results if not math.isnan(one.score.auc.value)]
    if not defined:
        return None
    best = max(defined, key=lambda one: one.score.auc.value)
    estimate = _estimate(best.score.auc)
    return {"rule": best.score.rule, "reads": best.score.reads, **(estimate or {})}


def _estimate(one: Estimate | None) -> dict[str, Any] | None:
    """Value, ends and n; None where the value is not defined."""
    if one is None or math.isnan(one.value):
        return None
    low, high = (None if math.isinf(end) else end for end in one.interval)
    return {"value": one.value, "low": low, "high": high, "n": one.n}


def tables(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """The rows for people, as tables by title."""
    verdicts = [
        {
            "model": row["model"],
            **{name: _cell(row[name]) for name in ("accuracy", "blind")},
            **{f"({clause})": said for clause, said in row["verdicts"].items()},
        }
        for row in rows
    ]
    plans = [
        {
            "model": row["model"],
            "certified plan": row["plan"] or "none",
            "FLOPs": "-" if row["flops_ratio"] is None else f"{row['flops_ratio']:.2f}",
            "latency": _cell(row["latency_ratio"], ".2f"),
            **{name: _cell(row[name]) for name in ("disagreement", "drop")},
        }
        for row in rows
    ]
    aucs = [
        {
            "model": row["model"],
            "mode": mode,
            "ours": _named(one["ours"]),
            "best published, one pass": _named(one["best_peer_one_pass"]),
            "best published": _named(one["best_peer"]),
        }
        for row in rows
        for mode, one in row["auc"].items()
        if any(one.values())
    ]
    overlaps = [
        {
            "model": row["model"],
            "ranking": ranking,
            "Jaccard index with": ", ".join(f"{peer} {j:.2f}" for peer, j in peers.items()),
        }
        for row in rows
        for ranking, peers in row["jaccard"].items()
    ]
    found = {TITLE: verdicts, "certified plans": plans, "AUC": aucs, "coincidence": overlaps}
    return {title: each for title, each in found.items() if each}


def _cell(one: dict[str, Any] | None, form: str = ".3f") -> str:
    return (
        "-" if one is None else f"{one['value']:{form}} [{one['low']:{form}}, {one['high']:{form}}]"
    )


def _named(one: dict[str, Any] | None) -> str:
    return "-" if one is None else f"{one['rule']} {_cell(one, '.2f')}"


if __name__ == "__main__":
    main()
