"""What a whole run can certify, and how long it takes, before it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from scipy import stats

from theory import certify_mean
from vlm_bridge.data import unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer_batch
from vlm_bridge.evaluate.reach import Reach, reach
from vlm_bridge.experiments.whole_run.settings import RunSettings
from vlm_bridge.experiments.whole_run.splits import RunSplits
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.selection.path import RUNGS


@dataclass(frozen=True)
class Forecast:
    """What is known before the run.

    Attributes:
        counts: split -> images and questions.
        unit: what the images are called, in the plural.
        reach: what the certification images can certify.
        power: probability that a plan whose true rate is half of epsilon is certified.
        seconds_per_question: of one answer of the full model, from one batch.
        answers: step -> answers that it takes at most.
    """

    counts: dict[str, tuple[int, int]]
    unit: str
    reach: Reach
    power: float
    seconds_per_question: float
    answers: dict[str, int]

    @property
    def seconds(self) -> float:
        """Of all steps, if each answer takes as long as the timed ones, and no plan saves time."""
        return self.seconds_per_question * sum(self.answers.values())

    def lines(self) -> Iterator[str]:
        """For people."""
        for name, (units, questions) in self.counts.items():
            yield f"{name}: {units} {self.unit}, {questions} questions"
        yield self.reach.sentence()
        yield (
            f"a plan that changes {self.reach.epsilon / 2:.2%} of all answers is certified at "
            f"epsilon {self.reach.epsilon:g} with probability {self.power:.2f}"
        )
        steps = ", ".join(f"{name} {count:,}" for name, count in self.answers.items())
        yield (
            f"at most about {_duration(self.seconds)}: {self.seconds_per_question:.3g} s an answer "
            f"(one timed batch), answers {steps}; rules and timing come on top"
        )

    def check(self) -> None:
        """Raise a `BridgeError` if epsilon is out of reach."""
        if not self.reach.possible:
            least = math.ceil(1e4 * self.reach.best) / 1e4
            raise BridgeError(
                f"{self.reach.sentence()}; ask for --epsilon {least:g} or more, or give more "
                "certification images"
            )


def forecast(vlm: VLM, splits: RunSplits, settings: RunSettings, candidates: int) -> Forecast:
    """Count, time one batch of answers, and say what a run can reach.

    `candidates` is the largest number of plans that are tried on tuning images.
    """
    counts = dict(splits.counts())
    certification, tuning = counts["certification"], counts["tuning"]
    found = reach(splits.certification, epsilon=settings.epsilon, delta=settings.delta)
    answers = {
        "profile": counts["profiling"][1],
        "search": tuning[1] * (1 + candidates) + certification[1] * (1 + len(RUNGS)),
        "comparison": 2 * counts["test"][1],
    }
    return Forecast(
        counts,
        unit_word(splits.certification),
        found,
        power(certification[0], settings.epsilon, settings.delta),
        _seconds(vlm, splits, settings),
        answers,
    )


def power(n: int, epsilon: float, delta: float) -> float:
    """Probability that n images, one question each, certify a rate of epsilon/2.

    Example:
        >>> round(power(410, 0.05, 0.05), 1)
        0.8
    """
    most = -1
    for changed in range(n + 1):
        values = [1.0] * changed + [0.0] * (n - changed)
        made = certify_mean(
            values, list(map(str, range(n))), quantity="disagreement", epsilon=epsilon, delta=delta
        )
        if not made.holds:
            break
        most = changed
    return float(stats.binom.cdf(most, n, epsilon / 2))


def _seconds(vlm: VLM, splits: RunSplits, settings: RunSettings) -> float:
    """Of one answer, in a batch after a first one."""
    made = list(
        batches(vlm, splits.tuning[: 2 * settings.batch_size], batch_size=settings.batch_size)
    )
    longest = settings.max_new_tokens
    with vlm.whole():
        answer_batch(vlm, made[0], max_new_tokens=longest)
        start = time.perf_counter()
        answer_batch(vlm, made[-1], max_new_tokens=longest)
    return (time.perf_counter() - start) / len(made[-1].items)


def _duration(seconds: float) -> str:
    """A time in its largest unit.

    >>> _duration(30), _duration(5400)
    ('30 s', '1.5 h')
    """
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
