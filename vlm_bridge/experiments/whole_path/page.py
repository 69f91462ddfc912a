"""The page of a run in HTML, with its figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.templates import template
from vlm_bridge.experiments.whole_path.results import WholePath
from vlm_bridge.figures.axes import png_uri
from vlm_bridge.figures.blocks import Block
from vlm_bridge.figures.layers import plot_profile
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.selection import CertifiedPlan

PAGE, FIGURE = "report.html", "report.png"


def write_page(result: WholePath, folder: Path) -> Path:
    """Write `report.html` and the figure of the profile into `folder`.

    Raises:
        BridgeError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = list(blocks_of(result))
    figures = []
    if result.profile is not None:
        plan = SkipPlan("block", result.profile.n_layers)
        if result.search is not None and result.search.certificate is not None:
            plan = result.search.plan
        drawn = plot_profile(folder / FIGURE, result.profile, result.profile_null, plan)
        words = "Change of the states in each layer, beside random weights; the plan is shaded"
        figures += [] if drawn is None else [{"uri": png_uri(drawn), "caption": words}]
    page = template("blocks.html.j2").render(
        kind="Run", title=result.model, blocks=blocks, figures=figures
    )
    return write_bytes(folder / PAGE, page.encode())


def blocks_of(result: WholePath) -> Iterator[Block]:
    """The page as blocks: headline, plan, certificates, comparison, cost, splits, scores."""
    yield Block(heading=result.model)
    yield Block(text=f"{result.headline()}.")
    if result.search is not None and result.search.certificate is not None:
        yield Block(text=f"Plan: {result.search.plan.describe(result.modality)}.")
    if result.certificates:
        yield Block(points=tuple(made.sentence() for made in result.certificates))
    if result.comparison is not None:
        yield Block(heading="On the test images, which chose and certified nothing")
        yield from _compared(result.comparison, result)
    if result.search is not None and result.search.path:
        yield Block(heading="Plans that were tested in sequence")
        yield _tested(result.search, result.modality)
    yield Block(heading="Questions, and what was expected")
    yield _splits(result)
    yield Block(points=tuple(result.outlook.lines())[1 + len(result.outlook.splits) :])
    if result.scores is not None:
        yield Block(heading=f"Scores of the rule {result.scores.rule}; lower is safer to skip")
        rows = tuple((one.words, one.mode, f"{one.score:.3g}") for one in result.scores.scores)
        yield Block(head=("unit", "mode", "score"), rows=rows)
    yield Block(text=f"Fingerprint {result.fingerprint}. Command: {result.command}")


def _compared(compared: Comparison, result: WholePath) -> Iterator[Block]:
    points = [compared.sentence(), compared.accuracy_sentence()]
    if result.answers is not None:
        points += [score.sentence(result.answers.unit_word) for score in result.answers.scores]
    if result.cost is not None:
        phase = result.cost.prefill
        points.append(
            f"one prompt at a time: prefill FLOPs, skipped/full, {phase.flops_ratio:.2f}; time to "
            f"the first token {1e3 * phase.seconds_full:.3g} -> {1e3 * phase.seconds_skipped:.3g} "
            f"ms (ratio {ranged(phase.latency_ratio, '.2f')}), {result.cost.device}, "
            f"{result.cost.dtype}"
        )
    yield Block(points=tuple(points))


def _tested(search: CertifiedPlan, modality: str) -> Block:
    tested = [*search.certificates, *[None] * (len(search.path) - len(search.certificates))]
    rows = []
    for step, made in zip(search.path, tested, strict=True):
        verdict = "not tested" if made is None else "passes" if made.holds else "fails"
        changed = "-" if made is None else f"{made.estimate:.2%}"
        cells = (f"{step.saving:.1%}", f"{step.rate:.2%}", changed, verdict)
        rows.append((step.plan.describe(modality), *cells))
    names = ("plan", "work saved", "changed, tuning", "changed, certification", "test")
    return Block(head=names, rows=tuple(rows))


def _splits(result: WholePath) -> Block:
    sizes = result.outlook.splits.items()
    return Block(
        head=("split", f"{result.outlook.reach.unit_word}s", "questions", "hash"),
        rows=tuple(
            (name, f"{size.n_images:,}", f"{size.n_questions:,}", size.data_hash[:12])
            for name, size in sizes
        ),
    )
