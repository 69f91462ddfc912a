"""Profile a model: how much each layer changes the states of each token group."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, load_file, save

from estimators import Profile
from vlm_bridge.data import Item, image_ids, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.given import check_items, check_vlm
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.prompts import batch_places
from vlm_bridge.model.run_batches import deal_batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.collector import Collector
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.runtime.checkpoint import beside, difference, kept_in, of_all_ranks
from vlm_bridge.runtime.distributed import Ranks, sharing
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.runtime.strict_json import parse_json
from vlm_bridge.runtime.tensor_files import Arrays, arrays_digest


def profile(
    vlm: VLM,
    items: Iterable[Item],
    *,
    batch_size: int = 16,
    checkpoint: Path | None = None,
    reservoir: Reservoir | None = None,
    stack: str = DECODER,
) -> Profile:
    """Distance between a layer's input and output, by token group, from one forward pass.

    Labels are not read, memory does not grow with the number of items, and the image (recording,
    text) is the independent unit. Under `torchrun` the batches are shared among the ranks, and
    every rank gets the whole profile.

    Per layer and group: cosine distance `1 - cos(h_l, h_{l+1})` (mean, quantiles, tail
    probabilities), angular distance, norm ratio, relative norm of the update; VAR, the
    attention mass on modality keys of a query that can see such tokens, mean over heads; and,
    where a family adds features between layers, their relative norm.

    Args:
        vlm: the model.
        items: unlabelled questions; all questions about an image go into one batch.
        batch_size: questions in a batch.
        checkpoint: safetensors file of the sums so far; a second, equal call continues from it.
        reservoir: filled with a sample of states, for estimators that need rows.
        stack: the stack to measure, one of `vlm.layout.stacks`. All positions of an encoder of
            audio or images are `audio` or `image`; the decoder of an encoder-decoder runs on its
            own answer of at most 64 tokens. VAR is measured in decoder-only models.

    Raises:
        BridgeError: no such stack, there are no items, the model skips at present, a state has no
            direction, the checkpoint is of another run, or another rank died.

    Example:
        >>> profile(vlm, items).values("image", "cosine_distance")  # doctest: +SKIP
        array([0.74, 0.21, ...])
    """
    check_vlm(vlm)
    items = check_items(items)
    places = batch_places(items, batch_size)
    run = {
        "model": vlm.name,
        "fingerprint": vlm.fingerprint,
        "data_hash": items_hash(items),
    }
    key = {**run, "batch_size": batch_size, "reservoir": reservoir and reservoir.settings}
    n_layers = vlm.layout.depth(stack)
    if stack != DECODER:
        key["stack"] = stack

    def collector() -> Collector:
        sample = None if reservoir is None else Reservoir(**reservoir.settings)
        return Collector(n_layers, sample, stack)

    with sharing(kept_in(checkpoint)) as ranks:
        shard = _Shard(checkpoint, json.dumps(key), len(places), ranks, collector())
        title = f"profile of {vlm.name}"
        for number, batch in deal_batches(vlm, items, places, shard.done, ranks, title):
            clusters = [item.cluster for item in batch.items]
            with vlm.whole():
                shard.collector.run(vlm, batch.inputs, clusters, batch.places)
            shard.add(number)
        whole = collector()
        for part in ranks.gather(shard.close()):
            whole.add_arrays(load(part))
    if reservoir is not None and whole.reservoir is not None:
        reservoir.finish(run, [item.cluster for item in items])
        reservoir.add_arrays(whole.reservoir.to_arrays())
    n_images = len({item.cluster for item in items})
    measured = whole.profile(vlm.name, n_images=n_images, data_hash=run["data_hash"])
    return replace(measured, fingerprint=run["fingerprint"], images=image_ids(items))


def random_copy(vlm: VLM, *, seed: int = 0) -> VLM:
    """The same architecture with random weights: the null hypothesis of every profile.

    The cosine between a layer's input and output rises with depth in a random network too, so
    redundancy is a deviation from this copy.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(vlm.model)(vlm.model.config)
        table = model.get_input_embeddings()
        if getattr(table, "padding_idx", None) is not None:
            # transformers zeroes this row, but chat prompts use the token (often end-of-turn).
            std = float(table.weight.detach().std())
            torch.nn.init.normal_(table.weight.data[table.padding_idx], std=std)
        for parameter in model.parameters():
            # Gemma3's projector starts at zero, and so would every vision token.
            if parameter.dim() > 1 and not parameter.any():
                torch.nn.init.normal_(parameter.data, std=0.02)
    model = model.to(device=vlm.device, dtype=vlm.model.dtype).eval()
    layout = find_layout(model, vlm.layout.special_ids)
    return VLM(f"{vlm.name} (random weights)", model, vlm.processor, layout)


class _Shard:
    """This rank's collector and the numbers of its batches, stored in the rank's checkpoint."""

    def __init__(
        self, path: Path | None, key: str, n_batches: int, ranks: Ranks, collector: Collector
    ) -> None:
        self.collector = collector
        self.done: set[int] = set()  # the batches of all ranks before this run
        self._key, self._n_batches = key, n_batches
        self._path = None if path is None else beside(path, ranks.rank)
        self._batches: list[int] = []
        self._abandoned: list[Path] = []
        self._next_write = 0.0
        if path is None:
            return
        of_this_run = {beside(path, rank) for rank in range(ranks.size)}
        for file in of_all_ranks(path):
            batches, arrays = _read_shard(file, key, n_batches)
            if self.done & set(batches):
                raise BridgeError(f"{file} repeats batches of another rank; delete the checkpoint")
            self.done |= set(batches)
            if file == self._path:
                self._batches = batches
                self._add_arrays(file, arrays)
            elif file not in of_this_run and ranks.rank == 0:  # from a run with more ranks
                self._abandoned.append(file)
        ranks.gather(b"")  # no rank writes before all have read

    def _add_arrays(self, file: Path, arrays: Arrays) -> None:
        """Add the sums in a file."""
        try:
            self.collector.add_arrays(arrays)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BridgeError(f"{file} holds no sums of this run ({error}); delete it") from None

    def add(self, number: int) -> None:
        """Note that batch `number` is collected; write if writing has been cheap so far."""
        self._batches.append(number)
        started = time.monotonic()
        if self._path is not None and started >= self._next_write:
            self._write()
            now = time.monotonic()
            self._next_write = now + 20 * (now - started)  # at most 5 % of the time

    def _write(self) -> bytes:
        arrays = self.collector.to_arrays()
        meta = {"key": self._key, "batches": json.dumps(self._batches)}
        meta["sha256"] = _shard_digest(meta["batches"], arrays)
        data: bytes = save(arrays, metadata=meta)
        if self._path is not None:
            write_bytes(self._path, data)
        return data

    def close(self) -> bytes:
        """Write the checkpoint; returns the sums of this rank."""
        data = self._write()
        for file in self._abandoned:
            self._add_arrays(file, _read_shard(file, self._key, self._n_batches)[1])
        return save(self.collector.to_arrays()) if self._abandoned else data


def _read_shard(path: Path, key: str, n_batches: int) -> tuple[list[int], Arrays]:
    """The numbers of the batches in a checkpoint, and their sums; the run has `n_batches`.

    A checkpoint with another key, or that was changed since it was written, is refused.
    """
    try:
        with safe_open(path, framework="numpy") as shard:
            meta: dict[str, Any] = shard.metadata() or {}
        arrays = load_file(path) if meta.get("key") == key else {}
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        meta = {}
    try:
        stored = parse_json(meta.get("key", ""))
    except ValueError:
        raise BridgeError(
            f"{path} is of another program or is no checkpoint; choose another one or delete it"
        ) from None
    if meta["key"] != key:
        differs = difference(stored, json.loads(key))
        raise BridgeError(
            f"{path} belongs to another run ({differs}); choose another one or delete it"
        )
    batches = meta.get("batches", "")
    if meta.get("sha256") != _shard_digest(batches, arrays):
        raise BridgeError(f"{path} was changed since it was written; delete it")
    try:
        numbers = parse_json(batches)
    except ValueError:
        numbers = None
    known = isinstance(numbers, list) and all(type(number) is int for number in numbers)
    if not known or not set(numbers) <= set(range(n_batches)) or len(set(numbers)) < len(numbers):
        raise BridgeError(f"{path} holds no numbers of batches of this run; delete it")
    return numbers, arrays


def _shard_digest(batches: str, arrays: Arrays) -> str:
    """The checksum of a checkpoint: of the batch numbers and all sums."""
    return hashlib.sha256(f"{batches} {arrays_digest(arrays)}".encode()).hexdigest()
