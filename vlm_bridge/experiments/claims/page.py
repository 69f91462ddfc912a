"""Results on the claim as a page of Markdown: conclusions first, then the evidence."""

from __future__ import annotations

import os
from pathlib import Path

from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.experiments.claims import tables
from vlm_bridge.experiments.claims.conclusions import CLAUSES, COMBINED, CRITERIA, conclusions
from vlm_bridge.experiments.claims.plots import plot_auc, plot_controls, plot_layers, plot_overlap
from vlm_bridge.experiments.claims.results import ClaimsResult, ModelClaims
from vlm_bridge.experiments.scoring.truth import least_images
from vlm_bridge.figures.markdown import plain, table
from vlm_bridge.reference.origin import sources_of
from vlm_bridge.runtime.files import safe_name, write_bytes


def write_page(result: ClaimsResult, page: Path, images: Path, *, command: str) -> Path:
    """Write the Markdown `page`, and its plots into the folder `images`.

    The page states `command`, which made it. A BridgeError if a file cannot be written.
    """
    controls = plot_controls(images / "claims-controls.png", result.models)
    caption = "plans of equal size inside and outside the conditions"
    lines = [*_head(result, command), *_clauses(result), *_link(controls, caption, page)]
    for claims in result.models:
        lines += _model(claims, images, page)
    return write_bytes(page, ("\n".join(lines).rstrip() + "\n").encode())


def _link(path: Path | None, caption: str, page: Path) -> list[str]:
    return [] if path is None else [f"![{caption}]({os.path.relpath(path, page.parent)})", ""]


def _head(result: ClaimsResult, command: str) -> list[str]:
    made = f"Made by `{command}` from measurements of `{result.machine['command']}`."
    return [
        *("# The claim on trained models", "", made, ""),
        "The paper (arXiv 2509.25584) claims that "
        + "; ".join(f"({key}) {text}" for key, text in CLAUSES.items())
        + ". The rules called ours are reconstructions of it. The quantity compared is the "
        f"{DECISION} of greedy answers. Rules look at one set of images, a second set chooses "
        "plans, a third certifies them, and all figures are of a fourth, the test images. "
        "Intervals are 95 % by image unless stated otherwise, ratios skipped/full, layers 0-based. "
        "*Changed* is disagreement with the full model, *drop* is lost accuracy.",
        "",
    ]


def _clauses(result: ClaimsResult) -> list[str]:
    by_model = [conclusions(claims) for claims in result.models]
    rows = [[each[0].model, *(f"**{clause.verdict}**" for clause in each)] for each in by_model]
    head = ["model", *(f"({clause})" for clause in CLAUSES)]
    lines = ["## Conclusions", "", *table(head, rows), ""]
    for at, (clause, text) in enumerate(CLAUSES.items()):
        lines += [f"### ({clause}) {text.capitalize()}", "", CRITERIA[clause], ""]
        verdicts = [each[at] for each in by_model]
        lines += [f"- {plain(each.model)}: **{each.verdict}**. {each.reason}" for each in verdicts]
        lines.append("")
    return [*lines, COMBINED, ""]


def _model(claims: ModelClaims, images: Path, page: Path) -> list[str]:
    benchmark, n_images = claims.benchmark, claims.benchmark.n_images
    start = f"claims-{safe_name(benchmark.model.strip('/').replace('/', '--'))}"
    sizes = ", ".join(f"{n} {split}" for split, n in n_images.items())
    name, data = plain(benchmark.model), plain(claims.data)
    heading = f"## {name}, {benchmark.n_layers} layers, on {data}"
    images_of = f"Images: {sizes}; epsilon {benchmark.epsilon:g}, delta {benchmark.delta:g}."
    sources = [f"- {plain(line)}" for line in sources_of(benchmark.model, [claims.data])]
    lines = [heading, "", images_of, "", *sources, ""]
    least, n_test = least_images(benchmark.epsilon), n_images["test"]
    if n_test < least:
        safe = f"On {n_test} images no unit can be shown safe at epsilon {benchmark.epsilon:g}"
        lines += [f"{safe}, which takes {least}: AUC is not defined here.", ""]
    return [
        *lines,
        *tables.accuracy(claims),
        *tables.certified(claims),
        *tables.rules(claims),
        *_link(plot_auc(images / f"{start}-auc.png", claims), "AUC per rule", page),
        *_link(plot_layers(images / f"{start}-layers.png", claims), "layers one by one", page),
        *tables.overlaps(claims),
        *_link(plot_overlap(images / f"{start}-overlap.png", claims), "overlap of sets", page),
        *tables.controls(claims),
        *tables.converses(claims),
        *tables.nulls(claims),
        *tables.refused(claims),
    ]
