"""The images of a run: four disjoint splits of a task set, a folder or one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_bridge.data import SPLITS as PARTS
from vlm_bridge.data import TASKS, Item, first_units, limit_per_image, read_jsonl, unit_word
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.experiments.claims.settings import SPLITS, ClaimsSettings
from vlm_bridge.experiments.rule_benchmark import Case, Sizes, Splits, load_case
from vlm_bridge.model.vlm import VLM, load

#: Split of the protocol -> split of a task set, and file in a folder, that it comes from.
SOURCES = dict(zip(SPLITS, ("profile", "tuning", "certification", "test"), strict=True))
TRAIN = "train"


@dataclass(frozen=True)
class Place:
    """Where a split begins: at the image `first` of the part `name` of the data."""

    name: str
    first: int = 0


def read_places(words: Sequence[str]) -> dict[str, Place]:
    """Where splits begin, from words such as `test=test:400`.

    Raises:
        BridgeError: another form, or no split of that name.

    Example:
        >>> read_places(["tuning=certification:340"])
        {'tuning': Place(name='certification', first=340)}
    """
    found = {}
    for word in words:
        split, _, place = word.partition("=")
        name, _, first = place.partition(":")
        if split not in SPLITS or not name or not (first or "0").isdigit():
            raise BridgeError(
                f"--at takes SPLIT=PART:FIRST with SPLIT one of {', '.join(SPLITS)}, as "
                f"test=test:400; got {shown(word)}"
            )
        found[split] = Place(name, int(first or 0))
    return found


@dataclass(frozen=True)
class Asked:
    """The questions of a run.

    Attributes:
        splits: one question for each image.
        training: give the blind baseline; empty: the tuning questions do.
        all_of_test: every question about the test images, for those that ask yes or no.
    """

    splits: Splits
    training: tuple[Item, ...]
    all_of_test: tuple[Item, ...]


def read_asked(
    data: str, settings: ClaimsSettings, places: Mapping[str, Place] | None = None
) -> Asked:
    """The questions of a task set (`TASKS`), of a folder of JSONL files, or of one JSONL file.

    A folder holds `profile.jsonl`, `tuning.jsonl`, `certification.jsonl`, `test.jsonl` and, for the
    blind baseline, `train.jsonl`. The images of one file are dealt to the splits in their order.

    Raises:
        BridgeError: no such data, fewer images than the settings want, or an image in two splits.
    """
    places = places or {}
    parts: dict[str, list[Item]] = {}
    folder = Path(data)

    def part(name: str) -> list[Item]:
        if name not in parts:
            if data in TASKS:
                parts[name] = TASKS[data](name)
            elif folder.is_dir():
                parts[name] = read_jsonl(folder / f"{name}.jsonl")
            else:
                raise BridgeError(f"--at names a part of a task set or folder, {data} is a file")
        return parts[name]

    if data not in TASKS and not folder.is_dir():
        if not folder.is_file():
            raise BridgeError(
                f"no data {shown(data)}: name a JSONL file, a folder of them, or one of "
                f"{', '.join(TASKS)}"
            )
        if places:
            part("")
        whole, first, dealt = read_jsonl(folder), 0, {}
        for split, size in settings.sizes.items():
            dealt[split] = _slice(whole, first, size, f"{data}, for {split}")
            first += size
        return _asked(dealt, [])
    dealt = {}
    for split, size in settings.sizes.items():
        place = places.get(split, Place(SOURCES[split]))
        dealt[split] = _slice(part(place.name), place.first, size, f"{data}:{place.name}")
    train = TRAIN in PARTS.get(data, ()) or (folder / f"{TRAIN}.jsonl").is_file()
    return _asked(dealt, part(TRAIN) if train else [])


def _slice(items: Sequence[Item], first: int, size: int, where: str) -> list[Item]:
    """The questions about `size` images from the image `first` on."""
    before = {item.cluster for item in first_units(items, first)}
    chosen = first_units([item for item in items if item.cluster not in before], size)
    if (n := len({item.cluster for item in chosen})) < size:
        raise BridgeError(
            f"{where} has {n} {unit_word(items)} from number {first} on, and {size} are wanted; "
            "add some, begin elsewhere (--at, as test=PART:FIRST), or lower the size before the "
            "run, never after it"
        )
    return chosen


def _asked(dealt: Mapping[str, Sequence[Item]], training: Sequence[Item]) -> Asked:
    one = (tuple(limit_per_image(dealt[split], 1)) for split in SPLITS)
    return Asked(Splits(*one), tuple(training), tuple(dealt["test"]))


def load_claims_case(
    name: str,
    data: str,
    settings: ClaimsSettings,
    places: Mapping[str, Place] | None = None,
    loading: Callable[[str], VLM] = load,
) -> tuple[Case, tuple[Item, ...]]:
    """The model and its questions, and every question about the test images.

    Args:
        name: as for `loading`; or "toy", a model with planted safe layers and its own questions.
        data: as for `read_asked`.
        settings: sizes of the splits.
        places: where splits begin.
        loading: reads a model.
    """
    if name == "toy":
        most = max(settings.test, settings.certification)
        case = load_case("toy", next(iter(TASKS)), Sizes(most, settings.tuning, settings.profiling))
        splits = Splits(
            case.splits.profiling,
            case.splits.tuning,
            case.splits.certification[: settings.certification],
            case.splits.test[: settings.test],
        )
        return Case(case.vlm, splits, case.training, case.data), splits.test
    asked = read_asked(data, settings, places)
    return Case(loading(name), asked.splits, asked.training, data), asked.all_of_test
