"""The page of the protocol in Markdown, and one to browse in HTML."""

from __future__ import annotations

import os
from pathlib import Path

from vlm_bridge.experiments.claims.plots import plot_clause, plot_harm
from vlm_bridge.experiments.claims.results import ClaimsResult
from vlm_bridge.experiments.claims.sections import Section, lead, sections_of
from vlm_bridge.experiments.claims.verdicts import judge, judged, overall
from vlm_bridge.experiments.templates import template
from vlm_bridge.figures.axes import png_uri
from vlm_bridge.figures.blocks import Block, to_markdown
from vlm_bridge.figures.markdown import plain
from vlm_bridge.runtime.files import safe_name, write_bytes

TITLE = "The claim on trained models"
#: Most lines of the page in Markdown.
MOST_LINES = 300


def write_page(result: ClaimsResult, page: Path, images: Path, *, command: str) -> Path:
    """Write the Markdown `page` and, beside it, the same in HTML with all details.

    Figures go into the folder `images`. The first paragraph says what is refuted. Tables of
    exploration are on the HTML page alone, so that the other stays within `MOST_LINES`.

    Raises:
        BridgeError: results of different protocols, one run twice, or a file that cannot be
            written.
    """
    verdicts = judge(result.models)
    first = lead(verdicts, overall(verdicts))
    made = f"Made by `{command}` from measurements of `{result.machine['command']}`."
    shown = [(section, _figure(section, result, images)) for section in sections_of(result)]
    lines = [*to_markdown([Block(heading=TITLE), Block(text=first)]), "", made]
    for section, figure in shown:
        if section.detail:
            continue
        lines += ["", *to_markdown([Block(heading=section.heading), *section.blocks], "##")]
        if figure is not None:
            lines += ["", f"![{plain(section.heading)}]({os.path.relpath(figure, page.parent)})"]
    html = template("claims.html.j2").render(
        title=TITLE,
        lead=first,
        made=made.replace("`", ""),
        sections=[
            (section, None if figure is None else png_uri(figure)) for section, figure in shown
        ],
    )
    write_bytes(page.with_suffix(".html"), html.encode())
    return write_bytes(page, ("\n".join(lines).rstrip() + "\n").encode())


def _figure(section: Section, result: ClaimsResult, images: Path) -> Path | None:
    path = images / f"claims-{safe_name(section.key)}.png"
    if section.clause is not None:
        return plot_clause(path, section.clause, judged(result.models))
    return None if section.run is None else plot_harm(path, section.run)
