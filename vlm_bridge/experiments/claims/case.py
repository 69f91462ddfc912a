"""The images of a run: four disjoint splits of a task set, a folder or one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vlm_bridge.data import TASKS, Item, limit_per_image
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.experiments.dealing import (
    SPLITS,
    TRAIN,
    Place,
    Source,
    deal_in_order,
    deal_parts,
)
from vlm_bridge.experiments.rule_benchmark import Case, Sizes, Splits, load_case
from vlm_bridge.model.vlm import VLM, load


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

    `Source` says what a folder holds. The images of one file are dealt to the splits in order.

    Raises:
        BridgeError: no such data, fewer images than the settings want, or an image in two splits.
    """
    source, places = Source(data), places or {}
    if source.is_one_file:
        whole = source.part("")
        if places:
            source.part(next(iter(places.values())).name)  # a file has no parts
        return _asked(deal_in_order(whole, settings.sizes, data), [])
    dealt = deal_parts(source, settings.sizes, places)
    return _asked(dealt, source.part(TRAIN) if source.has_training else [])


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
