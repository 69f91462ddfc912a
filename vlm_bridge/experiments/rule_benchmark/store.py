"""Store of the outcomes of plans on named splits, so that a plan is run once on a split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm_bridge.cost import Cost, measure_cost
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.sweep import sweep_outcomes
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_checked, read_or_make, safe_name, write_checked

#: Columns of `Outcomes` that are stored; KL divergences are not needed here.
_COLUMNS = ("disagree", "correct_full", "correct_skipped")
_TIMED_BATCH = 4  # sequences in the batch that times a plan


class Store:
    """Outcomes of plans at the first answer token, in memory and, if given, in a folder.

    Each is measured once for all runs with the same folder, model, weights and data; a killed sweep
    resumes. The attribute `folder` is the subfolder of this model and its weights.
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
        self._fingerprint = vlm.fingerprint
        # The name may be the path of a folder.
        name = safe_name(vlm.name.strip("/").replace("/", "--"))
        self.folder = folder and folder / f"{name}-{self._fingerprint[:12]}"
        self._known: dict[tuple[str, str], Outcomes] = {}

    def outcomes(self, split: str, plans: Sequence[SkipPlan]) -> list[Outcomes]:
        """Outcomes of each plan on a split; one sweep measures all that are not stored yet."""
        if self.vlm.fingerprint != self._fingerprint:
            raise BridgeError(
                f"the weights, dtype or attention of {self.vlm.name} changed after its store was "
                "opened; open another store"
            )
        missing = {
            plan.hash(): plan
            for plan in plans
            if (split, plan.hash()) not in self._known and not self._read(split, plan)
        }
        if missing:
            self._measure(split, missing)
        return [self._known[split, plan.hash()] for plan in plans]

    def path(self, name: str, key: Any) -> Path | None:
        """File of another stored result, named by the hash of `key`; None without a folder."""
        return self.folder and self.folder / f"{name}-{digest(key)}.json"

    def _measure(self, split: str, missing: Mapping[str, SkipPlan]) -> None:
        items, plans = self.splits[split], list(missing.values())
        checkpoint = self._file(split, f"sweep-{digest(sorted(missing))}.jsonl")
        measured = sweep_outcomes(
            self.vlm, items, plans, batch_size=self.batch_size, checkpoint=checkpoint
        )
        for name, outcomes in zip(missing, measured, strict=True):
            outcomes = replace(
                outcomes, kl_full_skipped=None, kl_skipped_full=None, length_change=None
            )
            self._known[split, name] = outcomes
            if (path := self._file(split, f"{name}.json")) is not None:
                columns = outcomes.columns()
                order = [items.index(item) for item in outcomes.items]
                write_checked(path, {"order": order, **{name: columns[name] for name in _COLUMNS}})
        if checkpoint is not None:
            checkpoint.unlink()

    def _file(self, split: str, name: str) -> Path | None:
        return self.folder and self.folder / f"{split}-{self.hashes[split][:12]}" / name

    def _read(self, split: str, plan: SkipPlan) -> bool:
        path = self._file(split, f"{plan.hash()}.json")
        if path is None or not path.is_file():
            return False
        body = read_checked(path, "outcomes of a plan")
        of_split = self.splits[split]
        order = body.pop("order", None)
        lists = [order, *(column for column in body.values() if column is not None)]
        if set(body) != set(_COLUMNS) or any(
            not isinstance(each, list) or len(each) != len(of_split) for each in lists
        ):
            raise BridgeError(f"{path} holds no outcomes of these questions; delete it")
        items = [of_split[place] for place in order]
        columns = {"kl_full_skipped": None, "kl_skipped_full": None, "at_limit": None, **body}
        self._known[split, plan.hash()] = Outcomes.of_columns(items, columns)
        return True


def compare_on_test(store: Store, plans: Sequence[SkipPlan]) -> list[Comparison]:
    """Compare every plan with the full model, on the test images of a store."""
    outcomes = store.outcomes("test", plans)
    return [Comparison.of(*each, DECISION, store.vlm) for each in zip(plans, outcomes, strict=True)]


def plan_cost(store: Store, plan: SkipPlan, *, pairs: int, tokens: int = 0) -> Cost:
    """Cost of a plan on the first test images, as `measure_cost`; measured once and stored."""
    vlm, items, timed = store.vlm, store.splits["test"], _TIMED_BATCH

    def measure() -> Cost:
        return measure_cost(vlm, items, plan, batch_size=timed, pairs=pairs, tokens=tokens)

    return read_or_make(store.path("cost", [plan.hash(), pairs, tokens]), Cost, measure)


def digest(key: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of JSON-ready data.

    >>> digest([1, 2]) == digest([1, 2]) != digest([2, 1])
    True
    """
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
