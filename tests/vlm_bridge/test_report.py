"""The report: figures exist, the page is self-contained, and says what the numbers say."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from estimators import Estimate, Profile
from estimators.profile import QUANTILE_LEVELS
from estimators.rank_correlation import spearman
from tests.vlm_bridge.report_results import (
    DISTANCE,
    N_LAYERS,
    VAR,
    Page,
    a_comparison,
    a_profile,
    build_results,
    quick_results,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.figures.axes import by_position, skipped_layers
from vlm_bridge.figures.layers import plot_profile, spread_levels
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_record, write_json

FIGURES = ("profile.png", "depth.png", "layers.png", "prediction.png")


def report(results: dict[str, Any], folder: Path) -> Page:
    json.dumps(results, allow_nan=False)  # what is reported is what results.json can hold
    return Page(write_report(DemoResults.from_json(results), folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    folder = tmp_path_factory.mktemp("report") / "new"
    return folder, report(build_results(), folder)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written(written: tuple[Path, Page], name: str) -> None:
    with Image.open(written[0] / name) as image:
        assert image.width > 900
        assert image.height > 400
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 50


def test_nothing_else_is_left_behind(written: tuple[Path, Page]) -> None:
    assert {p.name for p in written[0].iterdir()} == {*FIGURES, "report.html"}


def test_page_is_self_contained(written: tuple[Path, Page]) -> None:
    folder, page = written
    raw = (folder / "report.html").read_text(encoding="utf-8")
    assert len(page.links) == len(FIGURES)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", raw)


def test_page_says_what_was_found(written: tuple[Path, Page]) -> None:
    text = written[1].text
    for said in (
        "Freeze vision tokens in layers 13, 15-20 (7 of 30)",
        "The guarantee holds.",
        "0.85 of the FLOPs and 0.89 of the time (measured: faster; 95 % interval 0.86 to 0.93)",
        "Target: the share of answers that change is at most 2 %.",
        "98.4 %",
        "Blind baseline",
        "0.40 % [0.0, ",
        "Assumed, not checked:",
        "fifth line",
        "skipit demo --out out/demo",
        "layers are 0-based",
        "baselines come from whole answers on the test images",
        "the sweep looks at first answer tokens",
        "Freeze vision tokens in layers 13, 15-20 (7 of 30)",
        "layers 13, 15-20 (7 of 30)16.0 %0.50 % 0.25 %1.19 %: holds",
        "not tested: an earlier step failed",
        "Steps are tested in this order, each at the full 5 %",
    ):
        assert said in text
    assert "does not hold" not in text


def test_failure_is_said_as_plainly_as_success(tmp_path: Path) -> None:
    text = report(quick_results(failures=12), tmp_path).text
    assert text.count("The guarantee does not hold.") == 2
    assert "The guarantee holds." not in text
    assert "above the target" in text


@pytest.mark.parametrize("key", ["model", "plan_sentence", "command", "epsilon_note"])
def test_strings_are_escaped(tmp_path: Path, key: str) -> None:
    results = quick_results() | {key: '<script>alert(1)</script>&"'}
    page = report(results, tmp_path)
    assert "script" not in page.tags
    assert "cript>alert(1)</script>&" in page.text


@pytest.mark.slow
def test_missing_labels_are_said(tmp_path: Path) -> None:
    page = report(build_results(labels=False), tmp_path)
    assert page.text.count("not known: the questions have no labels") == 4
    assert page.text.count("The questions have no labels, so accuracy is not shown.") == 2
    assert "No bound on the accuracy drop was made" in page.text
    assert len(page.links) == 4


@pytest.mark.slow
def test_without_a_sweep_figures_are_left_out_and_old_ones_removed(tmp_path: Path) -> None:
    report(build_results(), tmp_path)
    page = report(build_results() | {"sweep": [], "peers": []}, tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == {"profile.png"}
    assert page.text.count("this figure is left out") == 3
    assert (
        "Not measured in this run: early exit. Not measured in this run: late entry." in page.text
    )
    assert "No sweep to compare the rule skip-it with." in page.text
    assert "No other rule was run." in page.text


@pytest.mark.slow
def test_one_mode_missing_is_said(tmp_path: Path) -> None:
    results = build_results()
    results["sweep"] = [
        s for s in results["sweep"] if s["plan"]["mode"] in ("freeze", "late_entry")
    ]
    page = report(results, tmp_path)
    assert "Not measured in this run: one blocked layer." in page.text
    assert "Not measured in this run: early exit." in page.text
    assert "No sweep to compare the rule shortgpt with." in page.text
    assert len(page.links) == 4


def test_no_null_profile_is_said(tmp_path: Path) -> None:
    page = report(quick_results() | {"profile_null": None}, tmp_path)
    assert "No profile of a copy with random weights was made." in page.text


def test_empty_plan(tmp_path: Path) -> None:
    plan = SkipPlan("freeze", N_LAYERS)
    page = report(quick_results() | {"plan": plan.to_json()}, tmp_path)
    assert "The plan skips nothing." in page.text


def test_weak_full_model_is_said(tmp_path: Path) -> None:
    results = quick_results()
    page = report(results | {"accuracy_full": results["accuracy_blind"]}, tmp_path)
    assert "not clearly better than the blind baseline" in page.text


def test_slower_is_called_slower(tmp_path: Path) -> None:
    results = quick_results()
    slow = Estimate(value=1.1, interval=(1.05, 1.2), n=15, method="median")
    results["cost"]["prefill"]["latency_ratio"] = slow.to_json()
    assert "(measured: slower; 95 % interval 1.05 to 1.20)" in report(results, tmp_path).text


def test_test_images_above_the_bound_are_said(tmp_path: Path) -> None:
    results = quick_results()
    results["comparison_test"] = a_comparison(SkipPlan("freeze", 30), 0.09, 0.05).to_json()
    assert "On the test images more answers change" in report(results, tmp_path).text


def test_results_are_not_changed(tmp_path: Path) -> None:
    results = build_results()
    before = copy.deepcopy(results)
    report(results, tmp_path)
    assert results == before


def test_same_results_same_bytes(tmp_path: Path) -> None:
    results = DemoResults.from_json(quick_results())
    first, second = (write_report(results, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_missing_keys_are_named(tmp_path: Path) -> None:
    results = build_results()
    del results["certificate"], results["sweep"]
    write_json(tmp_path / "results.json", results)
    with pytest.raises(BridgeError, match="lacks certificate, sweep"):
        read_record(tmp_path / "results.json", DemoResults, "results file")


def test_wrong_contents_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not of type Profile"):
        report(build_results() | {"profile": {"type": "Estimate"}}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_profile_without_distances_or_var_is_not_drawn(tmp_path: Path) -> None:
    full = a_profile("toy", DISTANCE, VAR)
    empty = Profile.from_json(full.to_json() | {"measures": {}})
    assert plot_profile(tmp_path / "p.png", empty, None, SkipPlan("freeze", N_LAYERS)) is None


@pytest.mark.parametrize(
    ("levels", "ends"),
    [
        (QUANTILE_LEVELS, (0.1, 0.9)),
        ((0.05, 0.25, 0.5, 0.75, 0.95), (0.05, 0.95)),
        ((0.5, 0.9), None),
        ((), None),
    ],
)
def test_shading_is_from_10_to_90_percent_or_near(
    levels: tuple[float, ...], ends: tuple[float, float] | None
) -> None:
    pair = spread_levels(levels)
    assert (pair and tuple(levels[i] for i in pair)) == ends


def test_skipped_layers() -> None:
    assert skipped_layers(SkipPlan("freeze", 4, layers=(1, 3))) == (1, 3)
    assert skipped_layers(SkipPlan("band", 4, entry=1, exit=3)) == (0, 3)


def test_by_position_leaves_out_plans_of_several_layers() -> None:
    plans = [SkipPlan("block", 4, layers=layers) for layers in ((2,), (0,), (0, 1), ())]
    found = by_position([a_comparison(plan, 0.1, None) for plan in plans], "block")
    assert [at for at, _ in found] == [0, 2]


@pytest.mark.parametrize(
    ("x", "y", "rho"),
    [([1, 2, 3], [3, 2, 1], -1.0), ([1, 1, 1], [1, 2, 3], np.nan), ([1], [1], np.nan)],
)
def test_rank_correlation(x: list[float], y: list[float], rho: float) -> None:
    assert spearman(x, y) == pytest.approx(rho, nan_ok=True)
