"""`skipit demo`, `report` and `verify`: commands that take no model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from theory.command import run_verify
from vlm_bridge.cli.as_json import AsJson, show
from vlm_bridge.cli.options import MaxNewTokens
from vlm_bridge.cli.replacing import held_in
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.experiments.demo.run import DemoSize, run_demo
from vlm_bridge.experiments.rule_benchmark import RuleBenchmark
from vlm_bridge.experiments.survey import Survey
from vlm_bridge.experiments.survey.page import HTML, write_html
from vlm_bridge.experiments.whole_path import PAGE, WholePath, write_page
from vlm_bridge.runtime.files import check_writable, read_record


def verify(
    ids: Annotated[list[str] | None, Argument(help="Statements (default: all).")] = None,
    trials: Annotated[int, Option(min=1, help="Random instances of each statement.")] = 1000,
    seed: Annotated[int, Option(help="Seed of the instances.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Check the theory: proofs, witnesses, counterexamples, instances.

    Equal to `python -m theory verify`. The exit code is 1 if any check fails.

    Example: `skipit verify S1 S9 --trials 10000`
    """
    try:
        code = run_verify(ids or (), trials=trials, seed=seed, as_json=as_json)
    except ValueError as error:
        raise BridgeError(str(error)) from None
    raise typer.Exit(code)


def report(
    results: Annotated[
        Path,
        Argument(help="results.json of a demo, survey.json of a survey or run.json of a run."),
    ],
    out: Annotated[
        Path, Option(help="Folder for the plots and report.html or, of a survey, survey.html.")
    ] = Path("out/report"),
    rules: Annotated[
        Path | None,
        Option(help="rules.json of `python -m benchmarks.rules`, for a section on rules."),
    ] = None,
) -> Any:
    """Draw the plots and the HTML report of a demo, survey or run again.

    Example: `skipit report out/demo/results.json --out out/report`

    Example: `skipit report out/survey/survey.json --out out/report`

    Example: `skipit report out/run/run.json --out out/report`

    Example: `skipit report out/demo/results.json --rules docs/results/rules.json`
    """
    held = held_in(results)
    if held in ("a survey", "a run"):
        if rules is not None:
            raise BridgeError(f"--rules goes with the results of a demo; {held} has none")
        check_writable(out / (HTML if held == "a survey" else PAGE))
        page = (
            write_html(read_record(results, Survey, "survey"), out)
            if held == "a survey"
            else write_page(read_record(results, WholePath, "run"), out)
        )
        show(str(page))
        return {"report": str(page)}
    if held not in ("results of a demo", "something else"):
        raise BridgeError(
            f"{results} holds {held}; a report is of results.json of `skipit demo`, of survey.json "
            "of `skipit survey` or of run.json of `skipit run`"
        )
    check_writable(out / "report.html")
    demo = read_record(results, DemoResults, "results file")
    benchmark = None if rules is None else read_record(rules, RuleBenchmark, "rule benchmark")
    page = write_report(demo, out, benchmark=benchmark)
    show(str(page))
    return {"report": str(page)}


def demo(
    out: Annotated[Path, Option(help="Output folder.")] = Path("out/demo"),
    seed: Annotated[int, Option(help="Seed that picks one question per image.")] = 0,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
) -> Any:
    """Run the whole path once on the reference VLM, in about five minutes.

    Profiles the model, finds the largest plan that can be certified, and compares it with the full
    model. Writes results.json, plots and report.html. The time is that of two cores.

    Example: `skipit demo --out out/demo`
    """
    given = {"--out": out, "--seed": seed, "--max-new-tokens": max_new_tokens}
    command = shlex.join(
        ["skipit", "demo", *(str(part) for pair in given.items() for part in pair)]
    )
    finished = run_demo(
        out, size=DemoSize(max_new_tokens=max_new_tokens), seed=seed, command=command
    )
    show("\n".join(finished.lines))
    return finished.results
