"""The steps of `skipit run`: single commands in a row, each done once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from theory import label_free_drop
from vlm_bridge.cli.evaluating import compare
from vlm_bridge.cli.model import cost
from vlm_bridge.cli.options import DataOptions, LedgerOptions, ModelOptions
from vlm_bridge.cli.output import save, say
from vlm_bridge.cli.profiling import ProfiledData, ProfiledModel, StatesOptions, profile
from vlm_bridge.cli.searching import SCORES, search
from vlm_bridge.data import Item, folder_of, write_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.checkpoint import Checkpoint
from vlm_bridge.runtime.distributed import is_main, sharing
from vlm_bridge.runtime.files import read_record
from vlm_bridge.selection import CertifiedPlan

#: Step -> the files that it writes, in order; what a step does not write is not there.
FILES = {
    "splits": tuple(f"splits/{n}.jsonl" for n in ("profiling", "tuning", "certification", "test")),
    "profile": ("profile.json", "profile-null.json", "profile.png"),
    "search": ("search.json", SCORES, "plan.json"),
    "certify": ("certificates.json",),
    "compare": ("comparison.json", "answers.jsonl"),
    "cost": ("cost.json",),
}


@dataclass(frozen=True)
class Loaded(ModelOptions):
    """A model that is loaded already."""

    vlm: VLM | None = None

    def load(self) -> VLM:
        """The loaded model."""
        assert self.vlm is not None
        return self.vlm


@dataclass(frozen=True)
class Settings:
    """What decides the results of the steps; fields as the options of the single commands."""

    rule: str
    mode: tuple[str, ...]
    epsilon: float
    delta: float
    scorer: tuple[str, ...]
    max_new_tokens: int
    batch_size: int
    null: bool
    pairs: int
    tokens: int
    seed: int


class Steps:
    """The steps of a run into a folder; one that was finished is not done again.

    Args:
        out: the folder.
        model: the loaded model.
        splits: split -> questions.
        settings: of the steps.
        ledger: of the search.
        key: what identifies the run.

    Raises:
        BridgeError: the folder holds another run, or a file that was changed since.
    """

    def __init__(
        self,
        out: Path,
        model: Loaded,
        splits: dict[str, list[Item]],
        settings: Settings,
        ledger: LedgerOptions,
        key: dict[str, Any],
    ) -> None:
        self.out, self.model, self.splits = out, model, splits
        self.set, self.ledger = settings, ledger
        self.images = folder_of(item for items in splits.values() for item in items)
        with sharing() as ranks:
            self.checkpoint = Checkpoint(out / "checkpoints" / "steps.jsonl", key, ranks)

    def all(self) -> Iterator[str]:
        """Do every step; yields the name of each that is finished."""
        work = {
            "splits": self._write_splits,
            "profile": self._profile,
            "search": self._search,
        }
        yield from self._each(work, 0)
        if self.found().certificate is not None:
            more = {"certify": self._certify, "compare": self._compare, "cost": self._cost}
            yield from self._each(more, len(work))

    def found(self) -> CertifiedPlan:
        """The result of the search."""
        return read_record(self.out / "search.json", CertifiedPlan, "search")

    def data(self, split: str) -> DataOptions:
        """The questions of a split, as the options of a single command."""
        path = str(self.out / "splits" / f"{split}.jsonl")
        return DataOptions(path, images=self.images, batch_size=self.set.batch_size)

    def written(self) -> list[Path]:
        """The files of all steps, as far as they are there."""
        names = (name for files in FILES.values() for name in files)
        return [self.out / name for name in names if (self.out / name).is_file()]

    def _each(self, work: Mapping[str, Callable[[], object]], first: int) -> Iterator[str]:
        for number, (name, do) in enumerate(work.items(), start=first):
            if self._is_done(number, name):
                say(f"{name}: finished before")
            else:
                say(f"{name} ...")
                do()
                self.checkpoint.add(number, self._digests(name))
            yield name

    def _is_done(self, number: int, name: str) -> bool:
        """Whether the step was finished, and its files are as it left them."""
        before = next((files for n, files in self._kept() if n == number), None)
        if before is None:
            return False
        now = self._digests(name)
        if changed := [file for file in before if now.get(file, before[file]) != before[file]]:
            raise BridgeError(
                f"{self.out / changed[0]} was changed since this run wrote it; delete it, and the "
                "step is done again, or name another --out"
            )
        return set(before) <= set(now)

    def _kept(self) -> list[tuple[int, dict[str, str]]]:
        """Number and files of the finished steps, the latest first."""
        return list(reversed(list(self.checkpoint.done.items())))

    def _digests(self, name: str) -> dict[str, str]:
        """SHA-256 of each file of a step that is there."""
        there = (file for file in FILES[name] if (self.out / file).is_file())
        return {file: hashlib.sha256((self.out / file).read_bytes()).hexdigest() for file in there}

    def _write_splits(self) -> None:
        if is_main():
            for name, items in self.splits.items():
                write_jsonl(self.out / "splits" / f"{name}.jsonl", items)

    def _profile(self) -> None:
        # `profile` also takes files of states; of its groups it reads what these two have.
        model, data = cast(ProfiledModel, self.model), cast(ProfiledData, self.data("profiling"))
        profile(model, data, StatesOptions(), out=self.out / "profile.json", null=self.set.null)

    def _search(self) -> None:
        search(
            self.model,
            self.data("tuning"),
            self.ledger,
            self.data("certification").data,
            rule=self.set.rule,
            mode=list(self.set.mode) or None,
            profile=self.out / "profile.json",
            epsilon=self.set.epsilon,
            delta=self.set.delta,
            max_new_tokens=self.set.max_new_tokens,
            out=self.out,
        )

    def _certify(self) -> None:
        """The certificate of the search and, with labels, that of the drop which follows."""
        made = self.found().certificate
        assert made is not None
        labelled = any(item.answer is not None for item in self.splits["certification"])
        certificates = [made, *([label_free_drop(made)] if labelled else [])]
        for certificate in certificates:
            say(certificate.sentence())
        save(self.out / "certificates.json", [one.to_json() for one in certificates])

    def _compare(self) -> None:
        compare(
            self.model,
            str(self.out / "plan.json"),
            self.data("test"),
            max_new_tokens=self.set.max_new_tokens,
            pairs=self.set.pairs,
            scorer=list(self.set.scorer) or None,
            items=self.out / "answers.jsonl",
            out=self.out / "comparison.json",
        )

    def _cost(self) -> None:
        cost(
            self.model,
            str(self.out / "plan.json"),
            self.data("test").data,
            images=self.images,
            batch_size=1,
            pairs=self.set.pairs,
            tokens=self.set.tokens,
            out=self.out / "cost.json",
        )
