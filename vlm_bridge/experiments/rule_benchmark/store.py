"""What every plan did to every question, kept for good: a plan is run once on a split, ever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vlm_bridge.data import Item, items_hash
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.sweep import sweep_outcomes
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_json, write_json

#: Columns of `Outcomes` that are kept; KL is not, since nothing here asks for it.
_KEPT = ("disagree", "correct_full", "correct_skipped")


class Store:
    """Outcomes of plans on named splits, at the first answer token, on disk or in memory.

    Rules, paths and resamplings all read from here; what is there is never run again, in this run
    or another one with the same model, weights and data. A sweep that is killed goes on where it
    was.

    Args:
        vlm: the model.
        splits: name -> questions.
        folder: where outcomes are kept; None keeps them in memory alone.
        batch_size: questions in a batch.

    Attributes:
        folder: of this very model, or None.
    """

    def __init__(
        self,
        vlm: VLM,
        splits: Mapping[str, Sequence[Item]],
        folder: Path | None,
        *,
        batch_size: int = 16,
    ) -> None:
        self.vlm, self.batch_size = vlm, batch_size
        self.splits = {name: tuple(items) for name, items in splits.items()}
        self.hashes = {name: items_hash(items) for name, items in self.splits.items()}
        name = vlm.name.strip("/").replace(
            "/", "--"
        )  # a model's folder is no place for its checkpoint
        self.folder = folder and folder / f"{name}-{fingerprint(vlm)}"
        self._known: dict[tuple[str, str], Outcomes] = {}

    def outcomes(self, split: str, plans: Sequence[SkipPlan]) -> list[Outcomes]:
        """What each plan did on a split; those not known yet are run in one sweep.

        Raises:
            BridgeError: the model cannot do a plan.
        """
        missing = {
            plan.hash(): plan
            for plan in plans
            if (split, plan.hash()) not in self._known and not self._read(split, plan)
        }
        if missing:
            items = self.splits[split]
            checkpoint = self._file(split, f"sweep-{digest(sorted(missing))}.jsonl")
            found = sweep_outcomes(
                self.vlm,
                items,
                list(missing.values()),
                batch_size=self.batch_size,
                checkpoint=checkpoint,
            )
            for name, one in zip(missing, found, strict=True):
                self._known[split, name] = replace(one, kl_full_skipped=None, kl_skipped_full=None)
                path = self._file(split, f"{name}.json")
                if path is not None:
                    columns = one.columns()
                    order = [items.index(item) for item in one.items]
                    body = {"order": order, **{kept: columns[kept] for kept in _KEPT}}
                    write_json(path, body)
            if checkpoint is not None:
                checkpoint.unlink()
        return [self._known[split, plan.hash()] for plan in plans]

    def kept(self, name: str, key: Any) -> Path | None:
        """A file for something else that is measured once, or None; named by the hash of `key`."""
        return self.folder and self.folder / f"{name}-{digest(key)}.json"

    def _file(self, split: str, name: str) -> Path | None:
        return self.folder and self.folder / f"{split}-{self.hashes[split][:12]}" / name

    def _read(self, split: str, plan: SkipPlan) -> bool:
        path = self._file(split, f"{plan.hash()}.json")
        if path is None or not path.is_file():
            return False
        body = read_json(path, "outcomes of a plan")
        items = [self.splits[split][place] for place in body.pop("order")]
        columns = {"kl_full_skipped": None, "kl_skipped_full": None, **body}
        self._known[split, plan.hash()] = Outcomes.of_columns(items, columns)
        return True


def fingerprint(vlm: VLM) -> str:
    """Twelve hexadecimal digits of names, shapes and sums of all weights.

    A model that was trained again under the same name is another model.
    """
    sums = [
        (name, list(weight.shape), float(weight.detach().sum(dtype=torch.float64)))
        for name, weight in vlm.model.named_parameters()
    ]
    return digest(sums)


def digest(key: Any) -> str:
    """Twelve hexadecimal digits of JSON-ready data.

    >>> digest([1, 2]) == digest([1, 2]) != digest([2, 1])
    True
    """
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
