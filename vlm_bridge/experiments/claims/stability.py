"""How stable our ranking is: the safest quarter from other images, wordings and task sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate
from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.scoring.coincidence import safest
from vlm_bridge.rules.measure.sensitivity import MarginSensitivity, measure_sensitivity
from vlm_bridge.rules.skip_it_slopes import SkipItSlopes
from vlm_bridge.runtime.files import safe_name

if TYPE_CHECKING:
    from vlm_bridge.experiments.claims.subject import Subject

OTHER_IMAGES, OTHER_WORDING = "other images", "another wording"
_WORDING = "please answer: {}"


@dataclass(frozen=True)
class Stability(Record):
    """Overlap of the safest quarter of units from two sets of profiling questions.

    Attributes:
        other: what differs: `OTHER_IMAGES`, `OTHER_WORDING` or the name of another task set.
        mode: of the units.
        n_units, size: number of counted units, and of those in a quarter.
        jaccard: `|A & B| / |A | B|`; interval by bootstrap over the images of both sets.
        chance: its mean if one set is drawn at random.
    """

    other: str
    mode: str
    n_units: int
    size: int
    jaccard: Estimate
    chance: float


def stabilities(
    subject: Subject,
    modes: Sequence[str],
    tuning: Sequence[Item],
    others: Mapping[str, Sequence[Item]],
    samples: int = 999,
) -> Iterator[Stability]:
    """Our ranking from the profiling questions against that from other questions.

    These are about tuning images, the same in another wording (not of texts), and of `others`.

    Raises:
        BridgeError: the slopes of the model are not defined.
    """
    images = SkipItSlopes().images
    own = list(subject.profiling[:images])
    sets: dict[str, list[Item]] = {OTHER_IMAGES: list(tuning[:images])}
    if all(item.files for item in own):
        sets[OTHER_WORDING] = [
            replace(item, question=_WORDING.format(item.question)) for item in own
        ]
    sets |= {name: list(items[:images]) for name, items in others.items()}
    measured = _measured(subject, own, modes, "own")
    for name, items in sets.items():
        other = _measured(subject, items, modes, name)
        for mode in modes:
            counted = _counted(subject, mode)
            yield stability(
                measured, other, mode, counted, other_name=name, samples=samples, seed=subject.seed
            )


def stability(
    own: MarginSensitivity,
    other: MarginSensitivity,
    mode: str,
    counted: NDArray[np.int64],
    *,
    other_name: str,
    samples: int = 999,
    seed: int = 0,
) -> Stability:
    """Jaccard index of the safest quarter, of the units at the places `counted`."""
    n, rng = len(counted), np.random.default_rng(seed)
    size = max(1, round(n / 4))
    if size >= n:
        raise BridgeError(f"a quarter of {n} units is all of them, so that no ranking differs")

    def index(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        a, b = safest(first[counted], size), safest(second[counted], size)
        return float((a & b).sum() / (a | b).sum())

    def drawn(one: MarginSensitivity) -> NDArray[np.float64]:
        rows = rng.integers(len(one.clusters), size=len(one.clusters))
        return resampled(one, rows).score(mode)

    value = index(own.score(mode), other.score(mode))
    found = [index(drawn(own), drawn(other)) for _ in range(samples)]
    low, high = np.percentile(found, [2.5, 97.5])
    estimate = Estimate(
        value=value,
        interval=(min(float(low), value), max(float(high), value)),
        n=min(len(own.clusters), len(other.clusters)),
        method="Jaccard index of the safest quarter, bootstrap over both sets of images",
    )
    return Stability(other_name, mode, n, size, estimate, _by_chance(n, size))


def resampled(one: MarginSensitivity, rows: NDArray[np.int64]) -> MarginSensitivity:
    """The same measurement on drawn rows, each of which counts as an image of its own."""
    return MarginSensitivity(
        clusters=tuple(map(str, range(len(rows)))),
        margins=one.margins[rows],
        weights=one.weights[rows],
        bound={mode: part[rows] for mode, part in one.bound.items()},
        change={mode: part[rows] for mode, part in one.change.items()},
    )


def _measured(
    subject: Subject, items: Sequence[Item], modes: Sequence[str], name: str
) -> MarginSensitivity:
    folder: Path = subject.folder / "stability"
    return measure_sensitivity(
        subject.vlm,
        items,
        modes=modes,
        batch_size=subject.settings.batch_size,
        checkpoint=folder / f"{safe_name(name)}.jsonl",
    )


def _counted(subject: Subject, mode: str) -> NDArray[np.int64]:
    units = subject.evidence.units(mode)
    return np.array([units.index(unit) for unit in subject.counted_units(mode)], dtype=np.int64)


def _by_chance(n: int, size: int) -> float:
    """Mean Jaccard index of two random sets of `size` of n units."""
    from scipy.stats import hypergeom

    common = np.arange(size + 1)
    chance = hypergeom(n, size, size).pmf(common)
    return float(np.sum(chance * common / (2 * size - common)))
