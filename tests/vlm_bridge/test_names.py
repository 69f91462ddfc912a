"""Names from outside stay names: in paths, in tables, in pages and in figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.vlm_bridge.report_results import N_LAYERS, a_profile, build_results
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.experiments.rule_benchmark import figures
from vlm_bridge.figures.layers import plot_profile
from vlm_bridge.figures.markdown import table
from vlm_bridge.plan.skip_plan import SkipPlan

HOSTILE = [
    "../../x",
    "/etc/x",
    "a/b",
    "..",
    "",
    "a\0b",
    "a\nb",
    "<script>alert(1)</script>",
    "a" * 500,
]


@pytest.mark.parametrize("model", HOSTILE)
def test_the_scores_of_a_model_are_drawn_inside_the_folder(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(path: Path, *_: Any) -> Path:
        path.write_bytes(b"png")
        return path

    monkeypatch.setattr(figures, "plot_scores", drawn)
    folder = tmp_path / "deep" / "report"
    folder.mkdir(parents=True)
    benchmark = SimpleNamespace(models=[SimpleNamespace(model=model, modes=["freeze"])])
    assert figures.score_figures(cast(Any, benchmark), folder)[model]["freeze"]
    (file,) = folder.iterdir()
    assert file.name.startswith("scores-")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("name", ["$a$b", "$", "a$^$b", r"\frac{", "_hidden", "<b>", "a|b"])
def test_a_name_in_a_figure_is_no_formula(name: str, tmp_path: Path) -> None:
    made = a_profile("toy", np.full(N_LAYERS, 0.1), np.full(N_LAYERS, 0.2))
    whole = replace(
        made,
        groups=(name,),
        measures={name: made.measures["image"]},
        tails={},
        quantiles={},
        n_rows={name: 1},
    )
    path = plot_profile(tmp_path / "a.png", whole, None, SkipPlan("freeze", made.n_layers))
    assert path.stat().st_size > 1000


def test_a_name_in_a_table_is_one_cell() -> None:
    lines = table(["model"], [["a|b\n| c |"], ["<img src=x onerror=alert(1)>"], ["2 < 3"]])
    assert lines[2:] == [
        r"| a\|b \| c \| |",
        "| &lt;img src=x onerror=alert(1)> |",
        "| 2 < 3 |",
    ]


def test_a_name_in_the_report_is_no_html(tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script>'
    results = replace(DemoResults.from_json(build_results()), model=hostile, command=hostile)
    page = write_report(results, tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "accuracy_full",
            {"value": "x"},
            "accuracy_full needs a value, an interval and two counts",
        ),
        ("accuracy_blind", {"value": 0.5, "interval": [0.4]}, "accuracy_blind needs a value"),
        ("data", {"test": {"n_images": 3}}, "the data of test need two counts and a hash"),
    ],
)
def test_results_without_their_numbers_are_refused(name: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DemoResults.from_json(build_results() | {name: value})
