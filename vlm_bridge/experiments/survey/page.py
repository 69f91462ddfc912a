"""A survey as files: its record, a page in Markdown and in HTML, and figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlm_bridge.experiments.survey.blocks import blocks_of
from vlm_bridge.experiments.survey.results import Survey
from vlm_bridge.experiments.templates import template
from vlm_bridge.figures.axes import png_uri
from vlm_bridge.figures.blocks import to_markdown
from vlm_bridge.figures.layers import plot_depth, plot_layers, plot_profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import write_bytes, write_record

RECORD, MARKDOWN, HTML = "survey.json", "survey.md", "survey.html"


def write_survey(result: Survey, folder: Path) -> list[str]:
    """Write record, pages and figures into `folder`; returns the lines of the Markdown page."""
    write_record(folder / RECORD, result)
    lines = to_markdown(blocks_of(result))
    figures = dict(_figures(result, folder))
    shown = [f"![{caption}]({path.name})" for path, caption in figures.items()]
    write_bytes(folder / MARKDOWN, "\n".join([*lines, "", *shown, ""]).encode())
    write_html(result, folder, figures)
    return lines


def write_html(result: Survey, folder: Path, figures: dict[Path, str] | None = None) -> Path:
    """Write `survey.html`, which embeds its figures; they are drawn if they are not given."""
    drawn = dict(_figures(result, folder)) if figures is None else figures
    blocks = blocks_of(result)
    page = template("blocks.html.j2").render(
        kind="Survey",
        title=blocks[0].heading,
        blocks=blocks,
        figures=[{"uri": png_uri(path), "caption": words} for path, words in drawn.items()],
    )
    return write_bytes(folder / HTML, page.encode())


def _figures(result: Survey, folder: Path) -> Iterator[tuple[Path, str]]:
    """The figures that the survey has data for, and what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = result.certified or SkipPlan("block", result.n_layers, stack=result.stack)
    blind = None if result.blind is None else result.blind.value
    singles, profile = result.singles, result.profile
    drawn = {
        "Answers changed by each layer skipped alone": plot_layers(
            folder / "layers.png", singles, plan, result.epsilon
        ),
        "Answers changed by each exit and entry depth": plot_depth(
            folder / "depth.png", singles, blind=blind, no_vision=None
        ),
        "Change of the states in each layer, beside random weights": plot_profile(
            folder / "profile.png", profile, result.profile_random, plan
        ),
    }
    yield from ((path, words) for words, path in drawn.items() if path is not None)
