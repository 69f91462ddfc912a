"""Work on batches: dealt out to the ranks, and kept in a journal so that a rerun goes on.

A journal is a file of JSON lines: what the run is, then one line per finished batch. Rank 0
writes the file that was named, every other rank one beside it; a rerun reads them all, so the
number of ranks may change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.distributed import Ranks, sharing
from vlm_bridge.errors import BridgeError
from vlm_bridge.progress import track
from vlm_bridge.prompts import Batch, batch_places, collate
from vlm_bridge.vlm import VLM


def run_batches(
    vlm: VLM,
    items: Sequence[Item],
    work: Callable[[Batch], Any],
    *,
    size: int,
    title: str,
    journal: Path | None,
    key: dict[str, Any],
    enough: Callable[[Sequence[Any]], bool] | None = None,
) -> list[tuple[tuple[Item, ...], Any]]:
    """The items of every finished batch with what `work` made of them, in order, on every rank.

    Args:
        vlm: the model.
        items: what the batches are made of.
        work: batch -> JSON-ready result.
        size: batch size.
        title: of the progress bar.
        journal: a file every finished batch is added to, or None.
        key: what the run is; a journal with another one is refused.
        enough: asked between batches with the results so far, in any order; True ends the run,
            and the batches that are left are not returned. None runs them all.

    Raises:
        BridgeError: there are no items, the journal is of another run, or a rank died.
    """
    places = batch_places(items, size)
    with sharing(kept_in(journal)) as ranks:
        book = _Journal(journal, key, ranks)
        done = book.done
        waiting = [number for number in range(len(places)) if number not in done]
        found: dict[int, Any] = {}
        with track(title, len(items)) as advance:
            advance(sum(len(places[number]) for number in done))
            for turn in range(0, len(waiting), ranks.size):
                if enough is not None and enough(list(done.values())):
                    break
                ranks.check()
                for number in ranks.share(waiting[turn : turn + ranks.size]):
                    found[number] = work(collate(vlm, items, places[number]))
                    book.add(number, found[number])
                advance(sum(len(places[number]) for number in waiting[turn : turn + ranks.size]))
                if enough is not None:  # every rank has to come to the same answer
                    done |= _of_everybody(ranks, found)
        done |= _of_everybody(ranks, found)
    return [
        (tuple(items[place] for place in chosen), done[number])
        for number, chosen in enumerate(places)
        if number in done
    ]


def _of_everybody(ranks: Ranks, found: dict[int, Any]) -> dict[int, Any]:
    parts = ranks.gather(json.dumps(found).encode())
    return {int(number): result for part in parts for number, result in json.loads(part).items()}


def kept_in(journal: Path | None) -> str:
    """What is left of a run that a dead rank ended."""
    if journal is None:
        return "nothing is kept, since no journal was asked for"
    return f"finished batches are kept in {journal}, and the same command goes on from there"


def beside(path: Path, rank: int) -> Path:
    """The file of a rank: `path` itself for rank 0.

    >>> beside(Path("out/journal.jsonl"), 2).name
    'journal-rank2.jsonl'
    """
    return path if rank == 0 else path.with_name(f"{path.stem}-rank{rank}{path.suffix}")


def of_all_ranks(path: Path) -> list[Path]:
    """`path` and the files beside it that ranks of earlier runs wrote."""
    others = path.parent.glob(f"{path.stem}-rank*{path.suffix}")
    return [one for one in (path, *sorted(others)) if one.is_file()]


class _Journal:
    """Finished batches of this run by number; `add` writes to this rank's file."""

    def __init__(self, path: Path | None, key: dict[str, Any], ranks: Ranks) -> None:
        self.done: dict[int, Any] = {}
        self._mine: Path | None = None
        if path is None:
            return
        for one in of_all_ranks(path):
            self.done |= _read(one, key)
        self._mine = beside(path, ranks.rank)
        ranks.gather(b"")  # nobody writes before everybody has read
        if self._mine.is_file():
            # The last line may be half a line, where the run was killed: it goes.
            text = self._mine.read_text(encoding="utf-8")
            self._mine.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
        if not self._mine.is_file() or not self._mine.stat().st_size:
            self._mine.parent.mkdir(parents=True, exist_ok=True)
            self._mine.write_text(json.dumps(key) + "\n", encoding="utf-8")

    def add(self, number: int, result: Any) -> None:
        if self._mine is not None:
            with self._mine.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps([number, result]) + "\n")


def _read(path: Path, key: dict[str, Any]) -> dict[int, Any]:
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    if not lines:
        return {}
    try:
        found, *rows = (json.loads(line) for line in lines)
    except json.JSONDecodeError:
        raise BridgeError(f"{path} is no journal; choose another folder or delete it") from None
    if found != key:
        raise BridgeError(
            f"{path} belongs to another run (model, data, plans or batch size differ); "
            "choose another folder or delete it"
        )
    return {int(number): result for number, result in rows}
