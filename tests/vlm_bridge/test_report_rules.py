"""The section on rules: every number on the page is the library's, read back from the page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from statistics import median
from typing import Any

import pytest

from benchmarks import margins as margins_command
from benchmarks import rules as rules_command
from estimators import Estimate
from tests.vlm_bridge.report_results import Page, among_searches, quick_results
from theory.systems import toy_vlm
from vlm_bridge.cli import main
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.experiments.rule_benchmark import (
    ErrorRateCheck,
    ModeTruth,
    RuleBenchmark,
    RuleResult,
)
from vlm_bridge.experiments.rule_benchmark.figures import plot_scores, unit_names
from vlm_bridge.figures.numbers import bracketed, quantity
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import unit_place, units
from vlm_bridge.selection import CertifiedPlan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small run of the benchmark on the toy: its files."""
    out = tmp_path_factory.mktemp("rules")
    rules_command.main(
        [
            *("--models", "toy", "--modes", "freeze", "late_entry", "--rules"),
            *("skip-it-slopes", "shortv", "unified", "random", "gm-skip", "--images", "60"),
            *("--tuning", "24", "--profiling", "4", "--pairs", "1", "--resamples", "20"),
            *("--epsilon", "0.2", "--checkpoint", str(out / "checkpoint"), "--out", str(out)),
        ]
    )
    return out


@pytest.fixture(scope="module")
def benchmark(folder) -> RuleBenchmark:
    return RuleBenchmark.from_json(json.loads((folder / "rules.json").read_text()))


def demo_results() -> DemoResults:
    return DemoResults.from_json(quick_results())


class Attributes(HTMLParser):
    """The `data-` attributes of rows and paragraphs, and of the cells below each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[tuple[str, str], dict[str, str]] = {}
        self.cells: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
        self.words: dict[tuple[str, str], dict[str, str]] = {}
        self._row: tuple[str, str] | None = None
        self._cell = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {k.removeprefix("data-"): v or "" for k, v in attrs if k.startswith("data-")}
        self._cell = ""
        if tag == "tr":
            self._row = None
        for kind in ("rule", "plan", "truth", "refused", "left-out"):
            if kind in found:
                self._row = (kind, found[kind])
                self.rows[self._row] = found
                self.cells[self._row], self.words[self._row] = {}, {}
        if "figure" in found and self._row:
            self._cell = found["figure"]
            self.cells[self._row][self._cell] = found

    def handle_data(self, data: str) -> None:
        if self._cell and self._row:
            before = self.words[self._row].get(self._cell, "")
            self.words[self._row][self._cell] = before + data


@pytest.fixture(scope="module")
def page(benchmark, tmp_path_factory) -> tuple[str, Attributes]:
    path = write_report(demo_results(), tmp_path_factory.mktemp("page"), benchmark=benchmark)
    text = path.read_text(encoding="utf-8")
    return text, Attributes(text)


def check(cell: dict[str, str], estimate: Estimate) -> None:
    """The cell holds exactly this estimate."""
    if math.isnan(estimate.value):
        assert cell["value"] == ""
    else:
        assert float(cell["value"]) == estimate.value
    assert (float(cell["low"]), float(cell["high"])) == estimate.interval


def test_margins_of_our_rules_have_a_page(benchmark, folder, tmp_path, capsys) -> None:
    margins_command.main([str(folder / "rules.json"), "--page", str(tmp_path / "margins.md")])
    text = (tmp_path / "margins.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    (model,) = benchmark.models
    ours = next(one for one in model.rules_in("freeze") if one.score.rule == "skip-it-slopes")
    assert f"| toy, freeze | {len(ours.scores)}: " in text
    assert f"| {bracketed(ours.score.spearman)} | {bracketed(ours.score.partial)} |" in text
    drawn = [one.chosen for one in model.rules if one.chosen.random]
    for chosen in drawn:
        assert f"{chosen.disagreement.value:.3f} | {median(chosen.random):.3f} (" in text
    twice = [str(folder / "rules.json")] * 2
    with pytest.raises(SystemExit):
        margins_command.main([*twice, "--page", str(tmp_path / "none.md")])
    assert "toy is in several of these records" in capsys.readouterr().err


def test_every_number_on_the_page_is_the_librarys(benchmark, page) -> None:
    found = page[1]
    (model,) = benchmark.models
    assert len([key for key in found.rows if key[0] == "rule"]) == len(model.rules)
    for one in model.rules:
        name = f"toy/{one.score.mode}/{one.score.rule}"
        row, cells = found.rows["rule", name], found.cells["rule", name]
        assert [float(x) for x in row["scores"].split()] == list(one.scores)
        assert float(cells["forward_cost"]["value"]) == one.score.forward_cost
        assert one.score.forward_cost == pytest.approx(sum(one.spent.values()))
        for figure in ("auc", "spearman", "partial", "false_safe"):
            check(cells[figure], getattr(one.score, figure))
        plan, made = found.cells["plan", name], one.chosen
        assert found.rows["plan", name]["hash"] == made.plan.hash()
        check(plan["saving"], made.saving)
        check(plan["disagreement"], made.disagreement)
        drawn = plan["random"]["value"].split() if made.random else []
        assert [float(x) for x in drawn] == list(made.random)
        if made.latency_ratio is not None:
            assert float(plan["flops"]["value"]) == made.flops_ratio
            check(plan["latency"], made.latency_ratio)
        else:
            assert "flops" not in plan
        if made.error_rate_check is not None:
            assert int(plan["wrong"]["value"]) == made.error_rate_check.wrong
    for truth in model.truths:
        row = found.rows["truth", f"toy/{truth.mode}/"]
        assert row["verdicts"].split() == list(truth.verdicts)
        assert [float(x) for x in row["mean"].split()] == list(truth.mean)


def test_what_people_read_is_the_number_rounded(benchmark, page) -> None:
    (model,) = benchmark.models
    for one in model.rules:
        name = f"toy/{one.score.mode}/{one.score.rule}"
        said = page[1].words["rule", name]
        for figure in ("auc", "spearman"):
            estimate = getattr(one.score, figure)
            shown = "not defined" if math.isnan(estimate.value) else quantity(estimate, "ratio")
            assert said[figure].strip() == shown
        assert said["forward_cost"].strip() == f"{one.score.forward_cost:.1f}"
        shown = page[1].words["plan", name]["disagreement"]
        assert shown.strip() == quantity(one.chosen.disagreement, "share")


def test_the_page_tells_what_was_found(benchmark, page) -> None:
    text = Page(page[0]).text
    truth = toy_vlm().truth
    harmful = [n for n in range(toy_vlm().n_layers) if n not in truth.safe_freezes]
    assert f"Harmful: {', '.join(map(str, harmful))}." in text
    assert "Undetermined: -." in text
    assert "candidate runs" in text
    assert "forced into neither class" in text
    assert "Plans of this mode are depths, the same for every rule" in text
    assert benchmark.error_rates() in text
    searched = sum(one.chosen.error_rate_check is not None for one in benchmark.models[0].rules)
    wrong = rf"(No certificate|Certificates could be wrong in \d+) of {searched} searches"
    assert re.search(wrong, text)


def test_without_a_study_there_is_no_section(tmp_path) -> None:
    text = write_report(demo_results(), tmp_path).read_text(encoding="utf-8")
    assert "What predicts a safe skip?" not in text
    assert not list(tmp_path.glob("scores-*.png"))


def test_the_command_line_takes_the_file(folder, benchmark, tmp_path, capsys) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(quick_results()))
    out = tmp_path / "report"

    def run(*more: object) -> int:
        try:
            main(["report", str(results), "--out", str(out), *map(str, more)])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    assert run("--rules", folder / "rules.json") == 0
    assert {p.name for p in out.glob("scores-*.png")} == {
        "scores-toy-freeze.png", "scores-toy-late_entry.png",
    }  # fmt: skip
    found = Attributes((out / "report.html").read_text(encoding="utf-8"))
    assert len([key for key in found.rows if key[0] == "rule"]) == len(benchmark.models[0].rules)
    capsys.readouterr()
    assert run("--rules", results) == 2
    assert "does not hold a rule benchmark" in capsys.readouterr().err
    assert run("--rules", tmp_path / "none.json") == 2
    assert f"no rule benchmark at {tmp_path}" in capsys.readouterr().err
    assert run() == 0  # figures of the benchmark that was there before are gone
    assert not list(out.glob("scores-*.png"))


# --- the benchmark's own output ---------------------------------------------------------------


def test_the_benchmark_writes_what_it_measured(folder, benchmark) -> None:
    text = (folder / "rules.md").read_text()
    assert "## toy, 11 layers" in text
    assert "Images: 4 profiling, 24 tuning, 60 certification, 60 test." in text
    for one in benchmark.models[0].rules:
        assert f"| {one.score.rule} | {one.score.requires} | {one.score.forward_cost:.1f} |" in text
    shortv = by_name(benchmark, "shortv", "freeze")
    assert f"| {shortv.chosen.plan.describe()} |" in text
    assert shortv.score.auc.value == 1.0
    assert (
        shortv.score.forward_cost > by_name(benchmark, "unified", "freeze").score.forward_cost == 0
    )
    assert len(text.splitlines()) > 20


def by_name(benchmark: RuleBenchmark, rule: str, mode: str) -> RuleResult:
    (found,) = (
        one
        for model in benchmark.models
        for one in model.rules
        if (one.score.rule, one.score.mode) == (rule, mode)
    )
    return found


def test_the_benchmark_goes_on_and_prints_json(folder, benchmark, tmp_path, capsys, monkeypatch):
    def nothing(*_: Any, **__: Any) -> None:
        raise AssertionError("this was measured before")

    monkeypatch.setattr("vlm_bridge.experiments.rule_benchmark.store.sweep_outcomes", nothing)
    # The same questions about the same images; the toy draws its files anew.
    rules_command.main(
        [
            *("--models", "toy", "--modes", "freeze", "--rules", "shortv", "--images", "60"),
            *("--tuning", "24", "--profiling", "4", "--pairs", "1", "--resamples", "20"),
            *("--epsilon", "0.2", "--checkpoint", str(folder / "checkpoint")),
            *("--out", str(tmp_path), "--json"),
        ]
    )
    printed = RuleBenchmark.from_json(json.loads(capsys.readouterr().out))
    measured = by_name(benchmark, "shortv", "freeze")  # beside four other rules
    assert printed.models[0].rules == (among_searches(measured, 5, 1),)
    assert printed == RuleBenchmark.from_json(json.loads((tmp_path / "rules.json").read_text()))


def test_leaving_one_model_out_is_by_mode(benchmark) -> None:
    (model,) = benchmark.models
    assert benchmark.across == ()
    twin = [model, replace(model, model="twin")]
    found = rules_command.across(twin, ["freeze", "block"])
    figures = ["AUC", "AUC, one pass at most", "saving"]
    assert [(one.mode, one.figure) for one in found] == [("freeze", name) for name in figures]
    assert {left.chosen for left in found[1].left_out} == {"skip-it-slopes"}
    best = max(one.score.auc.value for one in model.rules if one.score.mode == "freeze")
    assert [left.here for left in found[0].left_out] == [best, best]
    body = json.loads(json.dumps([one.to_json() for one in found], allow_nan=False))
    assert [found[0].from_json(one) for one in body] == found
    text = rules_command.markdown(
        RuleBenchmark(tuple(twin), tuple(found), benchmark.decision, benchmark.machine)
    )
    assert "| freeze, AUC | twin |" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rules", "best"], "unknown rule 'best'"),
        (["--models", "nothing"], "unknown model 'nothing'"),
        (["--epsilon", "2"], "epsilon and delta must lie in"),
    ],
)
def test_the_benchmark_refuses_in_one_line(arguments, said, capsys, tmp_path) -> None:
    given = [] if "--models" in arguments else ["--models", "toy"]
    few = ["--images", "2", "--tuning", "2", "--profiling", "2"]
    with pytest.raises(SystemExit):
        rules_command.main([*given, *arguments, *few, "--out", str(tmp_path)])
    assert said in capsys.readouterr().err


# --- units and verdicts -----------------------------------------------------------------------


def test_units_stand_where_they_are() -> None:
    for mode in ("block", "freeze"):
        assert [unit_place(unit) for unit in units(mode, 4)] == [0, 1, 2, 3]
    for mode in ("early_exit", "late_entry", "token_pruning"):
        assert [unit_place(unit) for unit in units(mode, 4)] == [1, 2, 3]
    assert [unit_place(unit) for unit in units("sublayer", 2)] == [0, 0.5, 1, 1.5]


def test_undetermined_units_are_named_and_drawn(benchmark, tmp_path) -> None:
    """A unit whose interval straddles epsilon is hollow and in neither list."""
    (model,) = benchmark.models
    verdicts = ("safe", "undetermined", "harmful") + ("safe",) * 8
    other = [t for t in model.truths if t.mode != "freeze"]
    (truth,) = (t for t in model.truths if t.mode == "freeze")
    some = replace(truth, verdicts=verdicts)
    assert unit_names(some, "undetermined") == "1"
    assert unit_names(some, "harmful") == "2"
    changed = replace(model, truths=(*other, some))
    before = plot_scores(tmp_path / "a.png", model, "freeze").read_bytes()
    assert plot_scores(tmp_path / "b.png", changed, "freeze").read_bytes() != before
    assert plot_scores(tmp_path / "c.png", model, "freeze").read_bytes() == before
    known = replace(some, verdicts=("safe", "safe", *verdicts[2:]))
    forced = replace(model, truths=(*other, known))
    drawn = [
        plot_scores(tmp_path / "d.png", one, "freeze").read_bytes() for one in (changed, forced)
    ]
    assert drawn[0] != drawn[1]
    made = ModeTruth(
        tuple(units("sublayer", 1 + 1)), 9, (0.0,) * 4, (0.0,) * 4, (0.1,) * 4,
        ("undetermined", "safe", "safe", "undetermined"),
    )  # fmt: skip
    assert unit_names(made, "undetermined") == "attention 0, MLP 1"


def test_a_plan_that_skips_nothing_is_said(benchmark, tmp_path) -> None:
    (model,) = benchmark.models
    first, *others = (one for one in model.rules if one.score.mode == "freeze")
    nothing = CertifiedPlan(SkipPlan("block", model.n_layers), None, (), ())
    chosen = replace(first.chosen, search=nothing, error_rate_check=None)
    chosen = replace(chosen, flops_ratio=None, latency_ratio=None, device=None)
    rules = (replace(first, chosen=chosen), *others)
    changed = replace(benchmark, models=(replace(model, rules=rules, truths=model.truths[:1]),))
    text = write_report(demo_results(), tmp_path, benchmark=changed).read_text(encoding="utf-8")
    assert text.count("none could be certified") == 1
    assert RuleBenchmark.from_json(json.loads(json.dumps(changed.to_json()))) == changed
    bad = ErrorRateCheck(resamples=200, wrong=30, certified=180, delta=0.05, worst=0.3)
    broken = replace(first, chosen=replace(first.chosen, error_rate_check=bad))
    told = replace(changed, models=(replace(model, rules=(broken,)),)).error_rates()
    assert told == (
        "Certificates could be wrong in 1 of 1 searches. The highest error rate is 30 of 200 "
        "(15.0%), where 5.0% is allowed, with a Monte Carlo standard error of 1.5%; 1 of the error "
        "rates exceed delta by more than three standard errors."
    )
    assert replace(changed, models=(replace(model, rules=rules[:1]),)).error_rates() == ""
    assert f"| {first.score.requires} | {first.score.forward_cost:.1f} |" in rules_command.markdown(
        changed
    )
    assert "| none |" in rules_command.markdown(changed)
