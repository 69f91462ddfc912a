"""Commands that need no model of the user's: verify, report, demo."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from theory.command import run_verify
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.experiments.demo.run import run_demo
from vlm_bridge.experiments.rule_benchmark import RuleBenchmark
from vlm_bridge.runtime.files import check_writable, read_record


def verify(
    ids: Annotated[list[str] | None, typer.Argument(help="Statements (default: all).")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Instances of each statement.")] = 1000,
    seed: Annotated[int, typer.Option(help="Fixes the instances.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="A list of objects instead of a table.")
    ] = False,
) -> None:
    """Check the theory again: proofs, witnesses, counterexamples, random and searched instances.

    The same as `python -m theory verify`. Exit code 1 on any violation.

    Example: `skipit verify S1 S9 --trials 10000`
    """
    try:
        code = run_verify(ids or (), trials=trials, seed=seed, as_json=as_json)
    except ValueError as error:
        raise BridgeError(str(error)) from None
    raise typer.Exit(code)


def report(
    results: Annotated[Path, typer.Argument(help="results.json of a demo.")],
    out: Annotated[Path, typer.Option(help="Folder for the plots and report.html.")] = Path(
        "out/report"
    ),
    rules: Annotated[
        Path | None,
        typer.Option(help="rules.json of `python -m benchmarks.rules`: adds a section on rules."),
    ] = None,
) -> None:
    """Draw plots and the self-contained HTML report from results again.

    Example: `skipit report out/demo/results.json --out out/report`

    Example: `skipit report out/demo/results.json --rules docs/results/rules.json`
    """
    check_writable(out / "report.html")
    demo = read_record(results, DemoResults, "results file")
    benchmark = None if rules is None else read_record(rules, RuleBenchmark, "rule benchmark")
    typer.echo(str(write_report(demo, out, benchmark=benchmark)))


def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Picks one question per image.")] = 0,
) -> None:
    """The whole path on the reference VLM, about five minutes on two cores.

    Profiles, searches for the largest plan that can be certified, skips, compares; writes
    results.json, plots and report.html.

    Example: `skipit demo --out out/demo`
    """
    command = shlex.join(["skipit", "demo", "--out", str(out), "--seed", str(seed)])
    for line in run_demo(out, seed=seed, command=command).lines:
        typer.echo(line)
