"""Profile a VLM on unlabelled questions: how redundant is each layer, for which tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, load_file, save

from estimators import Profile
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.prompts import batch_places, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.collector import Collector
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.runtime.checkpoint import beside, kept_in, of_all_ranks
from vlm_bridge.runtime.distributed import Ranks, sharing
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.runtime.progress import track


def profile(
    vlm: VLM,
    items: Iterable[Item],
    *,
    batch_size: int = 16,
    checkpoint: Path | None = None,
    reservoir: Reservoir | None = None,
) -> Profile:
    """Distance between adjacent states, per layer and token group, from one forward pass.

    Labels are not read. Everything is reduced as it streams by, so memory does not grow
    with the number of items; intervals treat the image as the independent unit. Under
    `torchrun` the batches are dealt out to the ranks, and every rank gets the whole profile.

    Per layer and group: cosine distance `1 - cos(h_l, h_{l+1})` (mean, quantiles, tail
    probabilities), angular distance, norm ratio, relative norm of the update; VAR, the
    attention mass a query that can see an image puts on vision keys, mean over heads; and,
    where a family adds features between layers, their relative norm.

    Args:
        vlm: the model.
        items: unlabelled questions; an image's questions are kept in one batch.
        batch_size: questions in a batch.
        checkpoint: a safetensors file for what was collected so far; a second call with the same
            model, items, batch size and reservoir continues from there.
        reservoir: filled with a sample of states, for estimators that need rows.

    Raises:
        BridgeError: there are no items, a state has no direction, the checkpoint is of another
            run, or another rank died.

    Example:
        >>> profile(vlm, items).values("image", "cosine_distance")  # doctest: +SKIP
        array([0.74, 0.21, ...])
    """
    items = list(items)
    places = batch_places(items, batch_size)
    run = {"model": vlm.name, "data_hash": items_hash(items)}
    key = {**run, "batch_size": batch_size, "reservoir": reservoir and reservoir.settings}
    with sharing(kept_in(checkpoint)) as ranks:
        shard = _Shard(checkpoint, json.dumps(key), ranks, _collector(vlm, reservoir))
        waiting = [number for number in range(len(places)) if number not in shard.known]
        with track(f"profile of {vlm.name}", len(items)) as advance:
            advance(sum(len(places[number]) for number in shard.known))
            for turn in range(0, len(waiting), ranks.size):
                ranks.check()
                for number in ranks.share(waiting[turn : turn + ranks.size]):
                    batch = collate(vlm, items, places[number])
                    clusters = [item.cluster for item in batch.items]
                    shard.collector.run(vlm, batch.inputs, clusters, batch.places)
                    shard.add(number)
                advance(sum(len(places[number]) for number in waiting[turn : turn + ranks.size]))
        whole = _collector(vlm, reservoir)
        for part in ranks.gather(shard.close()):
            whole.add_arrays(load(part))
    if reservoir is not None and whole.reservoir is not None:
        reservoir.finish(run, [item.cluster for item in items])
        reservoir.add_arrays(whole.reservoir.to_arrays())
    n_images = len({item.cluster for item in items})
    return whole.profile(vlm.name, n_images=n_images, data_hash=run["data_hash"])


def random_copy(vlm: VLM, *, seed: int = 0) -> VLM:
    """The same architecture with freshly initialised weights: the null of every profile.

    On a random network the cosine between a layer's input and output already rises with
    depth, so a claim of redundancy must beat this copy.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(vlm.model)(vlm.model.config)
        table = model.get_input_embeddings()
        if getattr(table, "padding_idx", None) is not None:
            # transformers zeroes this row, but chat prompts use the token (often end-of-turn),
            # and a zero state has no direction.
            std = float(table.weight.detach().std())
            torch.nn.init.normal_(table.weight.data[table.padding_idx], std=std)
        for parameter in model.parameters():
            # Gemma3's projector starts at zero, and so would every vision token.
            if parameter.dim() > 1 and not parameter.any():
                torch.nn.init.normal_(parameter.data, std=0.02)
    model = model.to(device=vlm.device, dtype=vlm.model.dtype).eval()
    layout = find_layout(model, vlm.layout.special_ids)
    return VLM(f"{vlm.name} (random weights)", model, vlm.processor, layout)


def _collector(vlm: VLM, reservoir: Reservoir | None) -> Collector:
    empty = None if reservoir is None else Reservoir(**reservoir.settings)
    return Collector(vlm.layout.n_layers, empty)


class _Shard:
    """What this rank collected, of which batches; written now and then, read on a rerun."""

    def __init__(self, path: Path | None, key: str, ranks: Ranks, collector: Collector) -> None:
        self.collector = collector
        self.known: set[int] = set()
        self._key = key
        self._path = None if path is None else beside(path, ranks.rank)
        self._batches: list[int] = []
        self._left_over: list[Path] = []
        self._due = 0.0
        if path is None:
            return
        ours = {beside(path, rank) for rank in range(ranks.size)}
        for one in of_all_ranks(path):
            batches = _read_batches(one, key)
            if self.known & set(batches):
                raise BridgeError(
                    f"{one} holds batches of another shard too; delete the checkpoint"
                )
            self.known |= set(batches)
            if one == self._path:
                self._batches = batches
                collector.add_arrays(load_file(one))
            elif one not in ours and ranks.rank == 0:  # from a run with more ranks
                self._left_over.append(one)
        ranks.gather(b"")  # nobody writes before everybody has read

    def add(self, number: int) -> None:
        """Batch `number` is in the collector; write if writing has been cheap so far."""
        self._batches.append(number)
        if self._path is not None and time.monotonic() >= self._due:
            started = time.monotonic()
            self._write()
            now = time.monotonic()
            self._due = now + 20 * (now - started)  # at most 5 % of the time

    def _write(self) -> bytes:
        meta = {"key": self._key, "batches": json.dumps(self._batches)}
        data: bytes = save(self.collector.to_arrays(), metadata=meta)
        if self._path is not None:
            write_bytes(self._path, data)
        return data

    def close(self) -> bytes:
        """Write the rest; returns this rank's share of the whole."""
        data = self._write()
        if self._left_over:
            for one in self._left_over:
                self.collector.add_arrays(load_file(one))
            data = save(self.collector.to_arrays())
        return data


def _read_batches(path: Path, key: str) -> list[int]:
    """The batches of a shard of the run `key`."""
    try:
        with safe_open(path, framework="numpy") as shard:
            meta: dict[str, Any] = shard.metadata() or {}
    except SafetensorError:
        meta = {}
    if meta.get("key") != key:
        raise BridgeError(
            f"{path} belongs to another run (model, data, batch size or reservoir differ) or is "
            "no checkpoint; choose another one or delete it"
        )
    return [int(number) for number in json.loads(meta["batches"])]
