"""Run a function on every batch, shared among the ranks and resumed from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vlm_bridge.data import Item, items_hash
from vlm_bridge.model.encoder_decoder import last_only, with_decoder_start
from vlm_bridge.model.finite import finite
from vlm_bridge.model.prompts import Batch, batch_places, check_takes, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.checkpoint import Checkpoint, kept_in
from vlm_bridge.runtime.distributed import Ranks, sharing
from vlm_bridge.runtime.progress import track


def run_key(run: str, vlm: VLM, items: Sequence[Item], **settings: Any) -> dict[str, Any]:
    """The `key` of `run_batches`: the kind of run, the model, the data, and the settings."""
    who = {"model": vlm.name, "fingerprint": vlm.fingerprint}
    return {"run": run, **who, "data": items_hash(items), **settings}


def run_batches(
    vlm: VLM,
    items: Sequence[Item],
    work: Callable[[Batch], Any],
    is_result: Callable[[Any, int], bool],
    *,
    batch_size: int,
    title: str,
    checkpoint: Path | None,
    key: dict[str, Any],
    enough: Callable[[Sequence[Any]], bool] | None = None,
) -> list[tuple[tuple[Item, ...], Any]]:
    """The items of every finished batch and the result of `work` on it, in order, on every rank.

    A result is JSON-ready. Every finished batch is added to the file `checkpoint`; `key`
    identifies the run, and a checkpoint with another key is refused, as is one with a batch of
    which `is_result`, of its result and its number of items, is False. `enough` is called between
    batches with the results so far, in any order; True ends the run, and the batches not run
    are not returned.
    """
    places = batch_places(items, batch_size)
    with sharing(kept_in(checkpoint)) as ranks:
        book = Checkpoint(checkpoint, key, ranks)
        book.check(
            lambda number, result: (
                0 <= number < len(places) and is_result(result, len(places[number]))
            )
        )
        done, mine = book.done, dict[int, Any]()

        def stop() -> bool:
            if enough is None:
                return False
            done.update(_of_all_ranks(ranks, mine))  # every rank has to decide the same
            return enough(list(done.values()))

        for number, batch in deal_batches(vlm, items, places, set(done), ranks, title, stop):
            mine[number] = work(batch)
            book.add(number, mine[number])
        done.update(_of_all_ranks(ranks, mine))
    return [
        (tuple(items[place] for place in chosen), done[number])
        for number, chosen in enumerate(places)
        if number in done
    ]


def is_list_of(value: Any, kind: type, n: int) -> bool:
    """Whether a value is a list of `n` values of the type `kind`."""
    return isinstance(value, list) and len(value) == n and all(type(v) is kind for v in value)


def deal_batches(
    vlm: VLM,
    items: Sequence[Item],
    places: Sequence[Sequence[int]],
    done: Collection[int],
    ranks: Ranks,
    title: str,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Batch]]:
    """This rank's batches and their numbers, without those `done`, under a bar of all ranks.

    `places` is from `batch_places`. Every rank calls `stop` before each turn; True ends the run.
    """
    check_takes(vlm, items)
    waiting = [number for number in range(len(places)) if number not in done]
    with track(title, len(items)) as advance:
        advance(sum(len(places[number]) for number in done))
        for start in range(0, len(waiting), ranks.size):
            if stop():
                break
            ranks.check()
            turn = waiting[start : start + ranks.size]
            for number in ranks.share(turn):
                yield number, collate(vlm, items, places[number])
            advance(sum(len(places[number]) for number in turn))


def first_logits(vlm: VLM, batch: Batch) -> Tensor:
    """(batch, vocabulary) logits of the first answer token by one pass; refuses a broken model."""
    return finite(vlm, batch.inputs, lambda: answer_logits(vlm, batch), names=batch.names)


def answer_logits(vlm: VLM, batch: Batch) -> Tensor:
    """`first_logits` unchecked, for passes that are differentiated."""
    inputs = with_decoder_start(vlm, batch.inputs)
    logits: Tensor = vlm.model(**inputs, use_cache=False, **last_only(vlm)).logits[:, -1]
    return logits


def _of_all_ranks(ranks: Ranks, results: dict[int, Any]) -> dict[int, Any]:
    parts = ranks.gather(json.dumps(results).encode())
    return {int(number): result for part in parts for number, result in json.loads(part).items()}
