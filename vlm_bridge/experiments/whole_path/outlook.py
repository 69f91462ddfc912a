"""What a run can certify and how long it takes, before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from estimators.record import Record
from theory.certificates import certification_power
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.reach import Reach, reach
from vlm_bridge.experiments.claims.effort import Effort

#: Shares of epsilon at which the power of the certificate is told.
_SHARES = (0.0, 0.25, 0.5)


@dataclass(frozen=True)
class SplitSize(Record):
    """Size and identity of a split.

    Attributes:
        n_images: independent units.
        n_questions: about them.
        data_hash: `items_hash` of the questions.
    """

    n_images: int
    n_questions: int
    data_hash: str


@dataclass(frozen=True)
class Power(Record):
    """How likely a plan is certified.

    Attributes:
        rate: share of answers that the plan changes in truth.
        power: probability that it is certified at epsilon, with one question for each image.
    """

    rate: float
    power: float


@dataclass(frozen=True)
class Outlook(Record):
    """What a run can certify, and its work.

    Attributes:
        splits: split -> its size.
        reach: the smallest epsilon that the certification images can certify.
        powers: for plans that change nothing, a quarter and a half of epsilon.
        effort: answers of each step at most, and the time of one; None before it was timed.
    """

    splits: Mapping[str, SplitSize]
    reach: Reach
    powers: tuple[Power, ...]
    effort: Effort | None = None

    def check(self) -> None:
        """Raise a `BridgeError` if epsilon is out of reach, with what would do."""
        if self.reach.possible:
            return
        best = math.ceil(1e3 * self.reach.best) / 1e3
        images = "more" if self.reach.n_needed is None else f"{self.reach.n_needed:,}"
        raise BridgeError(
            f"epsilon {self.reach.epsilon:g} is out of reach for {self.reach.n_images} "
            f"certification {self.reach.unit_word}s at delta {self.reach.delta:g}; ask for "
            f"--epsilon {best:g}, or give {images} certification {self.reach.unit_word}s, "
            "with one question each (--per-image 1): more data, a larger share of it, or data of "
            "their own (see --help)"
        )

    def timed(self, effort: Effort) -> Outlook:
        """The same with its work."""
        return replace(self, effort=effort)

    def lines(self) -> Iterator[str]:
        """A table of the splits, then what can be certified and how long it takes."""
        yield f"split\t{self.reach.unit_word}s\tquestions\tfor"
        for name, size in self.splits.items():
            yield f"{name}\t{size.n_images:,}\t{size.n_questions:,}\t{_USE[name]}"
        yield self.reach.sentence()
        if self.reach.possible:
            yield (
                f"a plan is certified at epsilon {self.reach.epsilon:g} with probability "
                + (
                    ", ".join(
                        f"{one.power:.0%} if it changes {one.rate:.2%} of answers"
                        for one in self.powers
                    )
                )
                + f" (one question for each {self.reach.unit_word})"
            )
        if self.effort is not None:
            yield self._time(self.effort)

    def _time(self, effort: Effort) -> str:
        steps = ", ".join(f"{name} {count:,}" for name, count in effort.answers.items())
        return (
            f"about {_duration(3600 * effort.hours)}, an estimate: at most {effort.total:,.0f} "
            f"answers ({steps}) at {effort.seconds_per_answer:.3g} s each, as timed on one batch"
        )


#: What each split is for.
_USE = {
    "profiling": "measures layers, without labels",
    "tuning": "chooses the plans to certify",
    "certification": "certifies one of them",
    "test": "reports it",
}


def outlook_of(splits: Mapping[str, Sequence[Item]], *, epsilon: float, delta: float) -> Outlook:
    """What the splits can certify, from their sizes alone; no model is run.

    The power is exact for one question for each image:

        P(Binomial(n, rate) <= k), k the largest count whose bound is at most epsilon

    Args:
        splits: split -> questions.
        epsilon: bound to certify.
        delta: probability that the certificate is wrong.

    Raises:
        BridgeError: epsilon or delta outside (0, 1).

    Example:
        >>> items = {"certification": [Item(None, f"{number}?") for number in range(59)]}
        >>> found = outlook_of(items, epsilon=0.05, delta=0.05)
        >>> found.reach.possible, [round(one.power, 2) for one in found.powers]
        (True, [1.0, 0.48, 0.22])
    """
    certifying = splits["certification"]
    found = reach(certifying, epsilon=epsilon, delta=delta)
    rates = [share * epsilon for share in _SHARES]
    return Outlook(
        splits={name: _size(items) for name, items in splits.items()},
        reach=found,
        powers=tuple(
            Power(rate, certification_power(found.n_images, epsilon, delta, harmed=rate))
            for rate in rates
        ),
    )


def _size(items: Sequence[Item]) -> SplitSize:
    return SplitSize(len({item.cluster for item in items}), len(items), items_hash(items))


def _duration(seconds: float) -> str:
    """A duration in words.

    >>> _duration(42), _duration(600), _duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
