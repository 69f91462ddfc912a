"""An alarm for a stream: it rings when a rate stays above epsilon, seldom when it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from estimators.record import Record
from theory._validate import check_count, check_fraction, check_number

#: The smallest bet of an `Alarm` is epsilon times 2 to this power.
_LEAST_DOUBLING = -6


def alarm_stakes(epsilon: float) -> tuple[float, ...]:
    """The bets of an `Alarm`: epsilon/64, epsilon/32, ..., epsilon, 2 epsilon, ..., at most 1/2.

    The bet s is the likelihood ratio of the rate epsilon + s (1 - epsilon). Its capital grows if
    the rate is above about epsilon + s (1 - epsilon) / 2, and shrinks below.

    Raises:
        TypeError: epsilon is no number.
        ValueError: epsilon outside (0, 1).

    Example:
        >>> stakes = alarm_stakes(0.1)
        >>> [round(stake / 0.1, 4) for stake in stakes]
        [0.0156, 0.0312, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0]
    """
    check_fraction(epsilon, "epsilon")
    doublings = max(0, math.floor(math.log2(1.0 / epsilon) + 1e-9))
    return tuple(epsilon * 2.0**k for k in range(_LEAST_DOUBLING, doublings))


@dataclass(frozen=True)
class Alarm(Record):
    """A bettor against "the rate is at most epsilon", outcome by outcome.

    With x_t = 1 where the answer changed, else 0, the capital after t outcomes is

        M_t = mean over s of sum_{j<=t} w_j prod_{i=j..t} (1 + s (x_i - epsilon) / epsilon)
              + 1 / (t + 1),                                        w_j = 1 / (j (j + 1)),

    over the bets s of `alarm_stakes`. A share w_j of the start capital is put to work at outcome j,
    and the rest, 1 / (t + 1), waits: so a long quiet time costs a later alarm little. No factor is
    negative, and if the rate given the past is never above epsilon, M is a supermartingale with
    M_0 = 1. So **P(M_t >= 1/alpha at any time) <= alpha** (Ville): the alarm rings falsely with
    probability at most alpha, however long it runs and whenever it is looked at.

    Every constant rate above 1.008 epsilon rings eventually, with probability 1, since the smallest
    bet grows; a rate between epsilon and that may never ring. With B bets it takes roughly

        log(2 B / alpha) / kl,    kl = rate log(rate / epsilon)
                                       + (1 - rate) log((1 - rate) / (1 - epsilon)),

    outcomes, and often fewer: of 200 simulated streams, seed 0, at alpha .05, half rang within

        rate           1.1 epsilon   1.2 epsilon   2 epsilon
        epsilon .02         36,356         9,844         422
        epsilon .05         12,529         3,548         186
        epsilon .1           6,052         1,792          72

    and all within 100,000 outcomes, but for 6 % at epsilon .02 and the rate 1.1 epsilon.

    Attributes:
        epsilon: largest rate without an alarm, in (0, 1).
        alpha: probability of a false alarm, over all time, in (0, 1).
        n: number of outcomes, t.
        n_changed: how many of them changed.
        working: for each bet, the capital at work; () at the start.
        highest: largest M so far, at least 1.
        rang_at: number of outcomes at the first alarm; None if there was none.

    Raises:
        TypeError: a number of another type.
        ValueError: epsilon or alpha outside (0, 1), impossible counts, or capital that is negative
            or of another number of bets.

    Source:
        Waudby-Smith & Ramdas 2024, arXiv 2010.09686, Proposition 2 (capital); Shin, Ramdas &
        Rinaldo 2024, arXiv 2203.03532 (starting anew at every time); Ville 1939.

    Example:
        >>> alarm = Alarm(epsilon=0.1, alpha=0.05)
        >>> for changed in [False] * 200 + [True] * 10:
        ...     alarm = alarm.after(changed)
        >>> alarm.rings, alarm.rang_at
        (True, 210)
    """

    SCHEMA_VERSION: ClassVar[int] = 2  # 1 had no bets below epsilon/2

    epsilon: float
    alpha: float
    n: int = 0
    n_changed: int = 0
    working: tuple[float, ...] = ()
    highest: float = 1.0
    rang_at: int | None = None

    def __post_init__(self) -> None:
        stakes = alarm_stakes(self.epsilon)
        check_fraction(self.alpha, "alpha")
        if check_count(self.n_changed, "n_changed", least=0) > check_count(self.n, "n", least=0):
            raise ValueError(f"{self.n_changed} of {self.n} outcomes cannot have changed")
        if len(self.working) != (len(stakes) if self.n else 0):
            raise ValueError(f"working has {len(self.working)} bets; there are {len(stakes)}")
        if not all(check_number(capital, "working") >= 0.0 for capital in self.working):
            raise ValueError("working must not be negative")
        if self.rings != (self.rang_at is not None):
            raise ValueError(f"highest {self.highest:g} contradicts rang_at {self.rang_at}")

    @property
    def rings(self) -> bool:
        """Whether the capital has ever reached 1/alpha; an alarm is not taken back."""
        return self.highest >= 1.0 / self.alpha

    @property
    def capital(self) -> float:
        """M now."""
        at_work = sum(self.working) / len(self.working) if self.working else 0.0
        return at_work + 1.0 / (self.n + 1)

    def after(self, changed: bool) -> Alarm:
        """The alarm after one more outcome.

        Raises:
            TypeError: the outcome is neither True nor False.
        """
        if not isinstance(changed, bool):
            raise TypeError(f"changed must be True or False, got {changed!r:.40}")
        stakes, n = alarm_stakes(self.epsilon), self.n + 1
        new = 1.0 / (n * (n + 1))
        before = self.working or (0.0,) * len(stakes)
        working = tuple(
            # so large a capital has long rung; it must stay a number
            min((old + new) * self._factor(stake, changed), 1e300)
            for old, stake in zip(before, stakes, strict=True)
        )
        capital = sum(working) / len(working) + 1.0 / (n + 1)
        rang_at = self.rang_at
        if rang_at is None and capital >= 1.0 / self.alpha:
            rang_at = n
        return replace(
            self,
            n=n,
            n_changed=self.n_changed + changed,
            working=working,
            highest=max(self.highest, capital),
            rang_at=rang_at,
        )

    def _factor(self, stake: float, changed: bool) -> float:
        return 1.0 + stake * (1.0 - self.epsilon) / self.epsilon if changed else 1.0 - stake

    def sentence(self) -> str:
        """What the outcomes show, in one line.

        >>> print(Alarm(epsilon=0.02, alpha=0.05).after(False).sentence())
        quiet: 0 of 1 audited answers changed; capital 0.971 of the 20 that ring the alarm
        (rate above 0.02, false with probability at most 0.05 over all time)
        """
        meaning = (
            f"(rate above {self.epsilon:g}, false with probability at most {self.alpha:g} over "
            "all time)"
        )
        counts = f"{self.n_changed:,} of {self.n:,} audited answers changed"
        if self.rang_at is not None:
            return f"ALARM after {self.rang_at:,} audited answers {meaning}; now {counts}"
        return (
            f"quiet: {counts}; capital {self.capital:.3g} of the {1.0 / self.alpha:g} that ring "
            f"the alarm {meaning}"
        )
