"""A whole run as a page, in Markdown and in HTML, with its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from estimators import Profile
from theory import what_it_takes
from vlm_bridge.evaluate.answered_items import AnsweredItem, read_answered
from vlm_bridge.experiments.templates import template
from vlm_bridge.experiments.whole_run.results import RunResult
from vlm_bridge.figures.axes import png_uri
from vlm_bridge.figures.blocks import Block, to_markdown
from vlm_bridge.figures.layers import plot_profile
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_record, write_bytes

RECORD, MARKDOWN, HTML = "run.json", "report.md", "report.html"
#: Changed answers that a page shows, the first of the test questions.
SHOWN = 30


def write_run(result: RunResult, folder: Path) -> Path:
    """Write `report.md`, `report.html` and `profile.png` from the files of a run; the page's path.

    The profile is read from profile.json, and changed answers from answers.jsonl, if it is there.
    """
    plan = result.search.plan if result.search.certificate else empty(result)
    measured = read_record(folder / "profile.json", Profile, "profile")
    drawn = plot_profile(folder / "profile.png", measured, None, plan)
    changed: list[AnsweredItem] = []
    if (folder / "answers.jsonl").exists():
        changed = [each for each in read_answered(folder / "answers.jsonl") if each.changed]
    blocks = list(blocks_of(result, changed))
    caption = "Change of the states in each layer; the layers that the plan skips are marked"
    lines = [*to_markdown(blocks), "", *([f"![{caption}]({drawn.name})", ""] if drawn else [])]
    write_bytes(folder / MARKDOWN, "\n".join(lines).encode())
    page = template("blocks.html.j2").render(
        title=f"skipit run: {result.model}",
        blocks=blocks,
        figures=[{"uri": png_uri(drawn), "caption": caption}] if drawn else [],
    )
    return write_bytes(folder / HTML, page.encode())


def empty(result: RunResult) -> SkipPlan:
    """The plan that skips nothing."""
    return SkipPlan("block", result.n_layers)


def blocks_of(result: RunResult, changed: Sequence[AnsweredItem] = ()) -> Iterator[Block]:
    """The page: the headline, then what it rests on."""
    yield Block(heading=f"{result.model}: which layers can be skipped?")
    yield Block(text=result.headline())
    yield from _certificate(result)
    yield from _test(result, changed)
    yield Block(
        text=f"What was tested on the certification {result.unit}, in this order, up to the first "
        "that fails. Tuning answers chose the order; only the search as a whole has a certificate."
    )
    yield Block(head=("plan", "changed in tuning", "in certification", "test"), rows=_path(result))
    yield Block(
        text="How safe each rule takes every layer or depth to be, on the profiling questions "
        "(smaller is safer; a rule's own unit)."
    )
    yield _scores(result)
    yield Block(
        head=("questions for", result.unit, "questions"),
        rows=tuple(
            (name, f"{units:,}", f"{questions:,}")
            for name, (units, questions) in result.counts.items()
        ),
    )
    where = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    yield Block(text=f"Model fingerprint {result.fingerprint}. Machine: {where}.")
    given = {name: value for name, value in result.settings.items() if value not in (None, [])}
    yield Block(points=tuple(f"{name} = {_words(value)}" for name, value in given.items()))


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _certificate(result: RunResult) -> Iterator[Block]:
    certificate = result.search.certificate
    if certificate is None:
        points = tuple(what_it_takes(each) for each in result.search.certificates)
        yield from [Block(points=points)] if points else []
        return
    drop = [] if result.accuracy_drop is None else [result.accuracy_drop.sentence()]
    assumed = [f"It assumes: {each}." for each in certificate.assumed]
    yield Block(points=(certificate.sentence(), *drop, *assumed, *certificate.caveats))


def _test(result: RunResult, changed: Sequence[AnsweredItem]) -> Iterator[Block]:
    if result.comparison is None or result.answers is None or result.cost is None:
        return
    cost = result.cost
    yield Block(text=f"On {result.counts['test'][0]} test {result.unit} that chose nothing:")
    lines = list(result.answers.lines())
    said = [*str(result.comparison).splitlines(), *(line for line in lines if "\t" not in line)]
    ratio = ranged(cost.prefill.latency_ratio, ".2f")
    said.append(
        f"prefill: {cost.prefill.flops_ratio:.2f} of the FLOPs, {ratio} of the time, cache "
        f"{cost.kv_ratio:.2f} of the bytes; {cost.dtype}, {cost.device}"
    )
    if cost.decode is not None:
        said.append(f"each further token: {ranged(cost.decode.latency_ratio, '.2f')} of the time")
    yield Block(points=tuple(said))
    head, *rows = [tuple(line.split("\t")) for line in lines if "\t" in line]
    yield Block(text="What changes in the first tokens of an answer:")
    yield Block(head=head, rows=tuple(rows))
    if changed:
        yield Block(text=f"{len(changed)} changed answers; the first {min(SHOWN, len(changed))}:")
        yield Block(
            head=("question", "about", "full model", "skipped", "reference"),
            rows=tuple(
                (
                    each.question,
                    ", ".join(Path(file).name for file in each.files) or "text alone",
                    each.full,
                    each.skipped,
                    " / ".join(each.references) or "-",
                )
                for each in changed[:SHOWN]
            ),
        )


def _path(result: RunResult) -> tuple[tuple[str, ...], ...]:
    rows = []
    made = [*result.search.certificates]
    for number, step in enumerate(result.search.path):
        tested = made[number] if number < len(made) else None
        cells = ("-", "not tested")
        if tested is not None:
            cells = (f"{tested.estimate:.2%}", "passes" if tested.holds else "fails")
        rows.append((step.plan.describe(result.modality), f"{step.rate:.2%}", *cells))
    return tuple(rows) or (("none", "-", "-", "-"),)


def _scores(result: RunResult) -> Block:
    names = [f"{each.rule}, {each.mode}" for each in result.rules]
    longest = max(len(each.scores) for each in result.rules)
    rows = [
        (
            str(unit),
            *(
                f"{each.scores[unit]:.3g}" if unit < len(each.scores) else "-"
                for each in result.rules
            ),
        )
        for unit in range(longest)
    ]
    return Block(head=("layer or depth", *names), rows=tuple(rows))
