"""The report: figures exist, the page is self-contained, and says what the numbers say."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from estimators import TAIL_GRID, Estimate, Profile
from estimators.profile import QUANTILE_LEVELS
from estimators.rank_correlation import spearman
from theory import Certificate, certify_mean
from vlm_bridge.cost import Cost, PhaseCost
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.figures.axes import by_position, skipped_layers
from vlm_bridge.figures.layers import plot_profile, spread_levels
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_record, write_json
from vlm_bridge.selection import CertifiedPlan, Step

N_LAYERS = 30
N_IMAGES, N_QUESTIONS = 200, 1540
FIGURES = ("profile.png", "depth.png", "layers.png", "prediction.png")
# Cosine distance of image tokens per layer, of the shape a small trained model has.
DISTANCE = np.array(
    "0.76 0.18 0.07 0.02 0.04 0.06 0.05 0.09 0.12 0.16 0.22 0.28 0.05 0.04 0.02 "
    "0.01 0.02 0.03 0.02 0.015 0.02 0.03 0.05 0.07 0.12 0.02 0.01 0.015 0.35 0.40".split(),
    dtype=float,
)
VAR = 0.04 + 0.5 * np.exp(-0.5 * ((np.arange(N_LAYERS) - 9) / 4) ** 2)


def estimate(value: float, *, half: float | None = None, low: float = 0.0) -> Estimate:
    spread = 1.96 * np.sqrt(max(value * (1 - value), 0.003) / N_IMAGES) if half is None else half
    interval = (max(low, value - spread), min(1.0, value + spread))
    return Estimate(value=value, interval=interval, n=N_IMAGES, method="clustered mean")


def a_profile(name: str, distance: np.ndarray, var: np.ndarray) -> Profile:
    groups = {"text": 0.6 * distance + 0.02, "image": distance, "special": 0.3 * distance + 0.05}
    measures = {
        group: {"cosine_distance": tuple(estimate(v, half=0.06 * v) for v in values)}
        for group, values in groups.items()
    }
    measures["text"]["var"] = tuple(estimate(v, half=0.05 * v) for v in var)
    return Profile(
        model=name,
        n_layers=N_LAYERS,
        groups=tuple(groups),
        measures=measures,
        tail_grid=TAIL_GRID,
        tails={},
        quantile_levels=QUANTILE_LEVELS,
        quantiles={
            group: tuple(tuple(v * 4 ** (2 * q - 1) for q in QUANTILE_LEVELS) for v in values)
            for group, values in groups.items()
        },
        n_images=N_IMAGES,
        n_rows=dict.fromkeys(groups, 100),
        data_hash="ab" * 32,
    )


def a_comparison(
    plan: SkipPlan, change: float, drop: float | None, decision: str = "first answer token"
) -> Comparison:
    labelled = drop is not None
    return Comparison(
        plan=plan,
        decision=decision,
        n_images=N_IMAGES,
        n_questions=N_QUESTIONS,
        data_hash="cd" * 32,
        disagreement=estimate(change),
        kl_full_skipped=estimate(change / 2),
        kl_skipped_full=estimate(change / 2),
        accuracy_full=estimate(0.98) if labelled else None,
        accuracy_skipped=estimate(0.98 - drop) if drop is not None else None,
        drop=estimate(drop, low=-1.0) if drop is not None else None,
    )


def a_sweep(*, labels: bool = True) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []

    def add(plan: SkipPlan, change: float, gain: float = 0.0) -> None:
        found.append(a_comparison(plan, change, 0.9 * change - gain if labels else None))

    late = np.concatenate([np.cumsum(VAR[::-1])[::-1][1:], [0.0]])
    for layer in range(N_LAYERS):
        noise = float(rng.lognormal(sigma=0.5))
        frozen = round(
            float(np.clip(0.09 * np.sqrt(DISTANCE[layer]) * late[layer] * noise, 0, 1)), 3
        )
        blocked = {0: 0.77, 1: 0.54, 29: 0.17}.get(layer, 0.02 + 0.06 * noise)
        add(SkipPlan("freeze", N_LAYERS, layers=(layer,)), frozen, 0.004)
        add(SkipPlan("block", N_LAYERS, layers=(layer,)), min(1.0, blocked))
    for depth in range(N_LAYERS + 1):
        add(SkipPlan("early_exit", N_LAYERS, exit=depth), 0.36 / (1 + np.exp((depth - 20) / 1.7)))
        add(SkipPlan("late_entry", N_LAYERS, entry=depth), 0.43 * (1 - np.exp(-depth)))
    return [one.to_json() for one in found]


def a_certificate(failures: int, quantity: str = "disagreement") -> dict[str, Any]:
    values = [1.0] * failures + [0.0] * (400 - failures)
    return certify_mean(
        values, range(400), quantity=quantity, epsilon=0.02, delta=0.05, data_hash="ef" * 32
    ).to_json()


def a_search(plan: SkipPlan, tested: dict[str, Any]) -> dict[str, Any]:
    """A first step that was tested, and another that would have come next."""
    more = SkipPlan("freeze", N_LAYERS, layers=(*plan.layers, 25))
    certificate = Certificate.from_json(tested)
    steps = (Step(plan, 0.005, 0.16), Step(more, 0.01, 0.18))
    promised = replace(certificate, bound=certificate.epsilon) if certificate.holds else None
    return CertifiedPlan(plan, promised, steps, (certificate,)).to_json()


def build_results(*, failures: int = 1, labels: bool = True) -> dict[str, Any]:
    plan = SkipPlan(
        "freeze", N_LAYERS, layers=(13, 15, 16, 17, 18, 19, 20), source={"rule": "skip-it"}
    )
    prefill = PhaseCost(
        flops_full=123_400_000_000,
        flops_skipped=104_900_000_000,
        seconds_full=0.41,
        seconds_skipped=0.37,
        latency_ratio=Estimate(value=0.89, interval=(0.86, 0.93), n=15, method="median"),
    )
    cost = Cost(
        prefill=prefill,
        decode=None,
        kv_bytes_full=8_000_000,
        kv_bytes_skipped=8_000_000,
        peak_bytes_full=50_000_000,
        peak_bytes_skipped=40_000_000,
        batch_size=8,
        length=96,
        device="cpu (2 threads)",
        dtype="float32",
    )
    trained = a_profile("toy", DISTANCE, VAR)
    null = a_profile(
        "toy (random weights)", 0.6 / (1 + np.arange(N_LAYERS)), np.full(N_LAYERS, 0.6)
    )
    peer = SkipPlan("block", N_LAYERS, layers=(12,), source={"rule": "shortgpt"})
    late = np.concatenate([np.cumsum(VAR[::-1])[::-1][1:], [0.0]])
    split = {"n_images": N_IMAGES, "n_questions": N_QUESTIONS, "data_hash": "01" * 32}

    def accuracy(value: float) -> dict[str, Any] | None:
        interval = [value - 0.012, value + 0.009]
        counts = {"n_images": N_IMAGES, "n_questions": N_QUESTIONS}
        return {"value": value, "interval": interval, **counts} if labels else None

    def whole(change: float, drop: float, of: SkipPlan = plan) -> dict[str, Any]:
        return a_comparison(of, change, drop if labels else None, "generated answer").to_json()

    return {
        "type": "DemoResults",
        "schema_version": 1,
        "model": "reference",
        "n_layers": N_LAYERS,
        "command": "skipit demo --out out/demo",
        "seed": 0,
        "created": "2025-01-02T03:04:05+00:00",
        "versions": {"torch": "2.8.0", "transformers": "5.20.0"},
        "data": dict.fromkeys(("profile", "tuning", "certification", "test"), split),
        "accuracy_full": accuracy(0.984),
        "accuracy_blind": accuracy(0.662),
        "accuracy_no_vision": accuracy(0.641),
        "accuracy_skipped": accuracy(0.981),
        "plan": plan.to_json(),
        "plan_sentence": plan.describe(),
        "epsilon": 0.02,
        "epsilon_note": "",
        "flops_ratio": prefill.flops_ratio,
        "latency_ratio": prefill.latency_ratio.value,
        "cost": cost.to_json(),
        "certificate": a_certificate(failures),
        "certificate_drop": a_certificate(failures, "accuracy_drop") if labels else None,
        "search": a_search(plan, a_certificate(failures)),
        "comparison": whole(0.0025, 0.001),
        "comparison_test": whole(0.004, -0.002),
        "peers": [
            {
                "type": "Peer",
                "schema_version": 1,
                "rule": "shortgpt",
                "condition": "geometric",
                "plan": peer.to_json(),
                "plan_sentence": peer.describe(),
                "comparison": whole(0.043, 0.031, peer),
                "flops_ratio": 0.967,
            }
        ],
        "profile": trained.to_json(),
        "profile_null": null.to_json(),
        "scores": {
            "skip-it": (np.sqrt(2 * DISTANCE) * late).tolist(),
            "shortgpt": DISTANCE.tolist(),
        },
        "sweep": a_sweep(labels=labels),
        "summary": ["first line", "second line", "third line", "fourth line", "fifth line"],
    }


def quick_results(**given: Any) -> dict[str, Any]:
    """Results without a sweep: one figure to draw instead of four."""
    return build_results(**given) | {"sweep": []}


class Page(HTMLParser):
    """Tags, every attribute that could load something, and the words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        self.text = re.sub(r"\s+", " ", self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loading = {"src", "href", "srcset", "data", "action", "poster"}
        self.links += [value or "" for name, value in attrs if name in loading]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words += data


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


def test_missing_labels_are_said(tmp_path: Path) -> None:
    page = report(build_results(labels=False), tmp_path)
    assert page.text.count("not known: the questions have no labels") == 4
    assert page.text.count("The questions have no labels, so accuracy is not shown.") == 2
    assert "No bound on the accuracy drop was made" in page.text
    assert len(page.links) == 4


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
