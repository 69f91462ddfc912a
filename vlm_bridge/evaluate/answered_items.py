"""Every question with both answers and their scores, in a JSONL file, so that they can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.data.jsonl import decoded_lines
from vlm_bridge.data.shapes.own import written_parts, written_turns
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.paired import PairedAnswers
from vlm_bridge.evaluate.scorers import Function, Scorer, find_scorers
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.runtime.strict_json import parse_json


@dataclass(frozen=True)
class AnsweredItem(Record):
    """One question, what both models said, and how it scores.

    Attributes:
        question: the text of the prompt.
        content: all that was asked, text and `{"image": ...}` in order, where that is more than an
            image before the question; else empty. An image is a path, or in memory "sha256:..."
        turns: what was said before the question, `{"role": ..., "content": ...}` each.
        files: paths of its images and recordings.
        cluster: its independent unit.
        references: its reference answers.
        full, skipped: the answers of the full and of the skipped model.
        changed: whether their texts differ.
        n_tokens_full, n_tokens_skipped: their tokens, the ends included.
        at_limit: whether the full model's answer reached the longest length without ending.
        scores_full, scores_skipped: by scorer; None without a label.
    """

    question: str
    content: tuple[Any, ...]
    turns: tuple[Any, ...]
    files: tuple[str, ...]
    cluster: str
    references: tuple[str, ...]
    full: str
    skipped: str
    changed: bool
    n_tokens_full: int
    n_tokens_skipped: int
    at_limit: bool
    scores_full: Mapping[str, float | None]
    scores_skipped: Mapping[str, float | None]


def answered_items(
    said: PairedAnswers, scorers: Sequence[str | Function | Scorer] = ("exact",)
) -> Iterator[AnsweredItem]:
    """Every question of `said` with both answers and their scores.

    Raises:
        BridgeError: as `compare_answers`.

    Example:
        >>> changed = [it for it in answered_items(said) if it.changed]  # doctest: +SKIP
    """
    fitted = [scorer.of(said.items) for scorer in find_scorers(scorers)]
    full, skipped = said.full, said.skipped
    for place, item in enumerate(said.items):
        before, after = (
            {scorer.name: scorer.score(each.texts[place], item) for scorer in fitted}
            for each in (full, skipped)
        )
        yield AnsweredItem(
            question=item.question,
            content=tuple(written_parts(item.dialogue[-1].parts)) if _is_dialogue(item) else (),
            turns=tuple(written_turns(item.turns)),
            files=tuple(map(str, item.files)),
            cluster=item.cluster,
            references=item.references,
            full=full.texts[place],
            skipped=skipped.texts[place],
            changed=full.texts[place] != skipped.texts[place],
            n_tokens_full=full.n_tokens[place],
            n_tokens_skipped=skipped.n_tokens[place],
            at_limit=said.at_limit[place],
            scores_full=before,
            scores_skipped=after,
        )


def _is_dialogue(item: Item) -> bool:
    """Whether more was asked than one question behind what it is about."""
    return bool(item.parts or item.turns)


def write_answered(
    path: Path, said: PairedAnswers, scorers: Sequence[str | Function | Scorer] = ("exact",)
) -> Path:
    """Write `answered_items`, one a line, into a JSONL file.

    Raises:
        BridgeError: as `answered_items`; a file that cannot be written.
    """
    lines = (f"{item.dumps()}\n" for item in answered_items(said, scorers))
    return write_bytes(path, "".join(lines).encode())


def read_answered(path: str | Path) -> list[AnsweredItem]:
    """Read the file that `write_answered` wrote.

    Raises:
        BridgeError: the file is missing, or a line is no answered item; the message names it.

    Example:
        >>> read_answered("missing.jsonl")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: cannot read the answered items at missing.jsonl: No such file
        or directory
    """
    made = []
    try:
        with Path(path).open("rb") as handle:
            for number, line in decoded_lines(handle, path):
                try:
                    made.append(AnsweredItem.from_json(parse_json(line)))
                except (ValueError, TypeError) as error:
                    raise BridgeError(f"{path}:{number}: no answered item: {error}") from None
    except OSError as error:
        why = error.strerror or shown(error)
        raise BridgeError(f"cannot read the answered items at {path}: {why}") from None
    return made
