"""The results of a run as a self-contained HTML page, and its figures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from vlm_bridge.evaluate.sweep import SWEPT
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.experiments.rule_benchmark import RuleBenchmark
from vlm_bridge.experiments.rule_benchmark.figures import score_figures, unit_names
from vlm_bridge.experiments.templates import template
from vlm_bridge.figures import layers, numbers, prediction
from vlm_bridge.figures.axes import by_position, png_uri
from vlm_bridge.plan.modes import LAYERWISE, MODES
from vlm_bridge.reference.origin import sources_of
from vlm_bridge.rules import RULES
from vlm_bridge.runtime.files import write_bytes

NAME = "report.html"
#: Functions of `numbers` that the templates use as filters.
_FORMATS = ("share", "exact", "number", "quantity", "ratio", "rounded_up", "raw")
_ACCURACIES = {
    "accuracy_full": "Full model",
    "accuracy_skipped": "Skipped model (the plan)",
    "accuracy_no_vision": "Full model without any image tokens",
    "accuracy_blind": "Blind baseline: most frequent training answer to the same question",
}


@dataclass(frozen=True)
class _Figure:
    """A figure of the page; without data `uri` is None and `notes` state the reason."""

    title: str
    caption: str
    uri: str | None
    notes: tuple[str, ...]


def write_report(
    results: DemoResults, folder: Path, *, benchmark: RuleBenchmark | None = None
) -> Path:
    """Write the figures and `report.html` of a run into `folder`; the page embeds its figures.

    A rule benchmark has its own section. The page states which results are missing, and replaces an
    older page. A BridgeError if a file cannot be written.

    Example:
        >>> results = read_record(path, DemoResults, "results file")  # doctest: +SKIP
        >>> write_report(results, Path("out"))  # doctest: +SKIP
        PosixPath('out/report.html')
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("scores-*.png"):  # of another benchmark
        old.unlink()
    formats = {name: getattr(numbers, name) for name in _FORMATS} | {"units": unit_names}
    formats["median"] = median
    page = template(f"{NAME}.j2", formats).render(
        {field.name: getattr(results, field.name) for field in fields(results)},
        **_derived(results),
        figures=_figures(results, folder),
        benchmark=benchmark,
        score_figures=None if benchmark is None else score_figures(benchmark, folder),
        layerwise=LAYERWISE,
    )
    return write_bytes(folder / NAME, page.encode("utf-8"))


def _derived(results: DemoResults) -> dict[str, Any]:
    """Values of the page that are not fields of the results."""
    search, full, blind = results.search, results.accuracy_full, results.accuracy_blind
    certificates = (results.certificate, results.certificate_drop)
    return {
        "certificates": [each for each in certificates if each is not None],
        # Steps with their certificates, None for steps that were not tested.
        "steps": search and list(itertools.zip_longest(search.path, search.certificates)),
        "accuracies": [(label, getattr(results, name)) for name, label in _ACCURACIES.items()],
        "level": results.comparison.disagreement.level,
        "sources": sources_of(results.model, ["easy-vqa"]),
        "beats_blind": not full or not blind or full["interval"][0] > blind["interval"][1],
    }


def _figures(results: DemoResults, folder: Path) -> list[_Figure]:
    sweep, plan, null = results.sweep, results.plan, results.profile_null
    swept = {mode for mode in SWEPT if by_position(sweep, mode)}
    unlabelled = any(comparison.drop is None for comparison in sweep)
    sample = f"{sweep[0].n_images} images, {sweep[0].decision}" if sweep else ""

    def notes(*modes: str) -> tuple[str, ...]:
        missing = [f"Not measured in this run: {MODES[m].title}." for m in modes if m not in swept]
        if unlabelled and swept & set(modes):
            missing.append("The questions have no labels, so accuracy is not shown.")
        return tuple(missing)

    blind, no_vision = (
        None if accuracy is None else accuracy["value"]
        for accuracy in (results.accuracy_blind, results.accuracy_no_vision)
    )
    modes = {peer.rule: peer.plan.mode for peer in results.peers}
    modes |= {rule: RULES[rule].modes[0] for rule in results.scores if rule in RULES}
    drawn: list[tuple[str, str, str, Path | None, tuple[str, ...]]] = [
        (
            "profile",
            "Change of the states in each layer",
            "Layers where the coloured line lies well below the dashed one, which is the same "
            "architecture with random weights, are those that training made redundant.",
            layers.plot_profile(folder / "profile.png", results.profile, null, plan),
            () if null else ("No profile of a copy with random weights was made.",),
        ),
        (
            "layers",
            "One layer at a time",
            "Layers with low points in both rows are candidates. A layer whose interval crosses "
            f"the dashed epsilon line is undecided by this sample ({sample}), and effects of "
            "several layers need not add up.",
            layers.plot_layers(folder / "layers.png", sweep, plan, results.epsilon),
            notes("block", "freeze"),
        ),
        (
            "depth",
            "How deep the image is needed",
            "The earliest exit and the latest entry inside the full model's band bound the "
            f"layers that need the image ({sample}); near the baselines the image is not used. The "
            "baselines come from whole answers on the test images and the sweep looks at first "
            "answer tokens, so they are comparable only roughly.",
            layers.plot_depth(folder / "depth.png", sweep, blind=blind, no_vision=no_vision),
            notes("early_exit", "late_entry"),
        ),
        (
            "prediction",
            "Scores against measured disagreement of first answer tokens",
            "If points rise from lower left to upper right, the rule, which reads no labels and no "
            "answers, ranks layers by the effect of skipping them. Layers are not independent, so "
            "no p-value is given for ρ.",
            prediction.plot_prediction(
                folder / "prediction.png", results.scores, modes, sweep, plan
            ),
            tuple(
                f"No sweep to compare the rule {rule} with."
                for rule in results.scores
                if modes.get(rule) not in swept & {"block", "freeze"}
            ),
        ),
    ]
    for name, _, _, path, _ in drawn:
        if path is None:  # remove the figure of an earlier run
            (folder / f"{name}.png").unlink(missing_ok=True)
    return [
        _Figure(title, caption, png_uri(path) if path else None, why)
        for _, title, caption, path, why in drawn
    ]
