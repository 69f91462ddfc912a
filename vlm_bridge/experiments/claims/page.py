"""A confirmation as a page of Markdown: conclusions first, then what they rest on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.experiments.claims.conclusions import CLAUSES, COMBINED, CRITERIA, conclusions
from vlm_bridge.experiments.claims.plots import plot_auc, plot_controls, plot_layers, plot_overlap
from vlm_bridge.experiments.claims.results import ClaimsResult, ModelClaims
from vlm_bridge.experiments.claims.tables import (
    accuracy_table,
    auc_table,
    certified_table,
    controls_table,
    converses_table,
    nulls_table,
    overlaps_table,
    refused_table,
)
from vlm_bridge.experiments.scoring.truth import least_images
from vlm_bridge.figures.markdown import table
from vlm_bridge.runtime.files import write_bytes

_SOURCE = "arXiv 2509.25584"


def write_page(found: ClaimsResult, page: Path, images: Path, *, command: str) -> Path:
    """Draw the plots into `images` and write the page, which links to them.

    Args:
        found: what was measured.
        page: the Markdown file.
        images: folder of the plots.
        command: that makes the page, printed on it.

    Raises:
        BridgeError: a file cannot be written.
    """

    def link(path: Path | None, what: str) -> list[str]:
        if path is None:
            return []
        return [f"![{what}]({os.path.relpath(path, page.parent)})", ""]

    lines = [*_head(found, command), *_clauses(found)]
    controls = plot_controls(images / "claims-controls.png", found.models)
    lines += link(controls, "plans of equal size inside and outside the conditions")
    for one in found.models:
        lines += _model(one, images, link)
    return write_bytes(page, ("\n".join(lines).rstrip() + "\n").encode())


def _head(found: ClaimsResult, command: str) -> list[str]:
    return [
        "# The claim on trained models",
        "",
        f"Made by `{command}` from measurements of `{found.machine['command']}`.",
        "",
        f"The paper ({_SOURCE}) claims that "
        + "; ".join(f"({key}) {text}" for key, text in CLAUSES.items())
        + f". The rules called ours are reconstructions of it. What is compared is the {DECISION} "
        "of greedy answers. Rules look at one set of images, a second chooses plans, a third "
        "certifies them, and all figures are of a fourth that nothing else has seen. Intervals "
        "are 95 % by image unless said otherwise, ratios skipped/full, layers 0-based. *Changed* "
        "is disagreement with the full model, *drop* is lost accuracy.",
        "",
    ]


def _clauses(found: ClaimsResult) -> list[str]:
    said = [conclusions(one) for one in found.models]
    rows = [[one[0].model, *(f"**{clause.verdict}**" for clause in one)] for one in said]
    head = ["model", *(f"({clause})" for clause in CLAUSES)]
    lines = ["## Conclusions", "", *table(head, rows), ""]
    for at, (clause, text) in enumerate(CLAUSES.items()):
        lines += [f"### ({clause}) {text.capitalize()}", "", CRITERIA[clause], ""]
        lines += [f"- {one[at].model}: **{one[at].verdict}**. {one[at].reason}" for one in said]
        lines.append("")
    return [*lines, COMBINED, ""]


def _model(
    found: ModelClaims, images: Path, link: Callable[[Path | None, str], list[str]]
) -> list[str]:
    benchmark = found.benchmark
    name = benchmark.model.strip("/").replace("/", "--")
    sizes = ", ".join(f"{n} {split}" for split, n in benchmark.n_images.items())
    lines = [f"## {benchmark.model}, {benchmark.n_layers} layers, on {found.data}", ""]
    lines += [f"Images: {sizes}; epsilon {benchmark.epsilon:g}, delta {benchmark.delta:g}.", ""]
    need = least_images(benchmark.epsilon)
    if benchmark.n_images["test"] < need:
        lines += [
            f"On {benchmark.n_images['test']} images no unit can be told safe at epsilon "
            f"{benchmark.epsilon:g}, which takes {need}: AUC is not defined here.",
            "",
        ]
    lines += [*accuracy_table(found), *certified_table(found), *auc_table(found)]
    lines += link(plot_auc(images / f"claims-{name}-auc.png", found), "AUC per rule")
    lines += link(plot_layers(images / f"claims-{name}-layers.png", found), "layers one by one")
    lines += overlaps_table(found)
    lines += link(plot_overlap(images / f"claims-{name}-overlap.png", found), "overlap of sets")
    return [
        *lines,
        *controls_table(found),
        *converses_table(found),
        *nulls_table(found),
        *refused_table(found),
    ]
