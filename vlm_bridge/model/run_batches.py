"""Work on batches, dealt out to the ranks and kept in a checkpoint so that a rerun goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import Batch, batch_places, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.checkpoint import Checkpoint, kept_in
from vlm_bridge.runtime.distributed import Ranks, sharing
from vlm_bridge.runtime.progress import track


def run_batches(
    vlm: VLM,
    items: Sequence[Item],
    work: Callable[[Batch], Any],
    *,
    batch_size: int,
    title: str,
    checkpoint: Path | None,
    key: dict[str, Any],
    enough: Callable[[Sequence[Any]], bool] | None = None,
) -> list[tuple[tuple[Item, ...], Any]]:
    """The items of every finished batch with what `work` made of them, in order, on every rank.

    Args:
        vlm: the model.
        items: what the batches are made of.
        work: batch -> JSON-ready result.
        batch_size: questions in a batch.
        title: of the progress bar.
        checkpoint: a file every finished batch is added to, or None.
        key: what the run is; a checkpoint with another one is refused.
        enough: asked between batches with the results so far, in any order; True ends the run,
            and the batches that are left are not returned. None runs them all.

    Raises:
        BridgeError: there are no items, the checkpoint is of another run, or a rank died.
    """
    places = batch_places(items, batch_size)
    with sharing(kept_in(checkpoint)) as ranks:
        book = Checkpoint(checkpoint, key, ranks)
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
