"""Our rule: what the answer feels, to first order, of what a skip takes away."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from theory.conditions import (
    Bound,
    functional_gap_from_cosine,
    functional_gap_from_tail,
    kl_from_logit_change,
    margin_certificate,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.candidates import candidate_passes, image_mean
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.slopes import Slopes, measure_slopes, slope_passes
from vlm_bridge.rules.units import units

#: Which slopes a mode is made of.
_KINDS = {
    "freeze": ("freeze",),
    "block": ("block",),
    "early_exit": ("unseen",),
    "late_entry": ("freeze", "unseen"),
}
_GROUP = {"freeze": "image", "block": "text"}
_TAIL = 0.1
_MIDDLE = 0.5
_LINEAR = "the tail is linear along what the skip takes away"


@dataclass(frozen=True)
class Reason:
    """What one condition says about one unit.

    Attributes:
        unit: position in `units(mode, L)`.
        bound: the condition's value, with what it rests on.
        limit: the condition calls the unit safe where the value is at most this.
    """

    unit: int
    bound: Bound
    limit: float

    @property
    def safe(self) -> bool:
        """Whether the condition calls the unit safe."""
        return self.bound.value <= self.limit

    @property
    def margin(self) -> float:
        """How far the value stays below the limit; negative where it does not."""
        return self.limit - self.bound.value

    def __str__(self) -> str:
        word = "safe" if self.safe else "not safe"
        return f"unit {self.unit}: {word} by {self.margin:+.3g}: {self.bound}"


@dataclass(frozen=True)
class SkipItSlopes:
    """Predicted change of the first answer token, from one full pass and slopes; no skipped run.

    `score_u = E KL(p || softmax(z + dz_u))`. With the slopes of `slopes.py`:

        block l         dz = J_l (- F_l(h))            statement S6 with the tail's own slope
        freeze l        the same on vision tokens
        early exit b    dz = sum_{j >= b} J_j u_j      S8c: u_j is what text loses in layer j
                                                       where it sees no vision keys (S8, exact)
        late entry a    dz = sum_{j < a} of both       vision neither updated nor seen before a

    Slopes are taken in the middle of the step, where a linear prediction is right to second order.
    At its start it is not enough: a pre-norm tail divides by the norm of the state, which a
    step that keeps the norm leaves unchanged only as a whole (S6b). The layers behind are so
    evaluated half-way, and the model without the unit is not.

    Two things stand between this and a bound: the tail is not linear, and exits and entries
    change several layers at once, whose changes are added. Both are named in `explain`.

    Slopes are measured on the first `images` images only, since a forward-mode derivative
    through every tail costs about L passes over them; `evidence.spent` has the sum.

    Attributes:
        images: number of images on which slopes are measured.
    """

    images: int = 8
    name: str = "skip-it-slopes"
    modes: tuple[str, ...] = ("freeze", "block", "early_exit", "late_entry")
    source: str = "reconstruction of arXiv:2509.25584 (S6 slopes, cross-modal S8, S7)"
    condition: str = "functional: S6 slopes + cross-modal S8"
    reads: str = "forward pass"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) predicted KL in nats; see the class."""
        kl, _ = _predicted(self, evidence, mode)
        return kl

    def explain(self, evidence: Evidence, mode: str, *, epsilon: float = 0.02) -> list[Reason]:
        """What each condition says about every unit, unit by unit.

        - S6: share of questions whose likeliest answer may change, at most epsilon. The margin
          criterion (logits move by less than half the margin) with the slope measured along
          the very update in place of a Lipschitz constant.
        - S7: KL of the answers from the oscillation of dz, at most `epsilon^2 / 2` (then the
          total variation is at most epsilon / 2, by Pinsker).
        - G-F and P-F (block, freeze): how far directions move, at most epsilon. They see no
          norms and know no tail: alone they are neither sufficient nor necessary (S6b).

        Args:
            evidence: what may be looked at.
            mode: one of `modes`.
            epsilon: share of answers that may change.

        Raises:
            BridgeError: epsilon outside (0, 1), another mode.
        """
        if not 0 < epsilon < 1:
            raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
        with evidence.open_to(self.name, self.reads):
            found = _slopes(self, evidence, mode)
            change = _change(found, mode)
            geometric = _geometric(evidence, mode)
        top = np.sort(found[0].logits, axis=-1)
        margins = top[:, -1] - top[:, -2]
        reasons = []
        for unit in range(change.shape[1]):
            size = np.abs(change[:, unit]).max(-1)
            share = margin_certificate(size, margins, lipschitz=1.0)
            kl = [kl_from_logit_change(one).value for one in change[:, unit]]
            osc = Bound(
                quantity="mean KL between the answers, either way",
                value=float(image_mean(np.array(kl), found[0].groups)),
                unit="nats",
                statement="S7",
                assumed=(_LINEAR,),
            )
            reasons += [
                Reason(unit, replace(share, assumed=(_LINEAR,)), epsilon),
                Reason(unit, osc, epsilon**2 / 2),
            ]
            reasons += [Reason(unit, bound, epsilon) for bound in geometric[unit]]
        return reasons

    def safe(self, evidence: Evidence, mode: str, *, epsilon: float = 0.02) -> tuple[int, ...]:
        """Units whose predicted share of changed first answer tokens is at most epsilon.

        A prediction to rank and to explain by, not a certificate.

        Raises:
            BridgeError: as `explain`.
        """
        if not 0 < epsilon < 1:
            raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
        with evidence.open_to(self.name, self.reads):
            _, flips = _predicted(self, evidence, mode)
        return tuple(np.flatnonzero(flips <= epsilon).tolist())


@dataclass(frozen=True)
class SkipItRuns:
    """Our rule with candidate runs: the safest-looking units are run, within a budget.

    Units are run in the order of `SkipItSlopes` until `passes` forward-pass equivalents are spent,
    and scored by the measured `KL(p_skip || p_full)`. Units that were not run keep their predicted
    KL, but never rank before one that was run.

    Attributes:
        passes: budget for candidate runs, the full model's pass included; any rule that runs
            candidates can be given the same.
        first: the rule that orders the candidates.
    """

    passes: float = 10.0
    first: SkipItSlopes = SkipItSlopes()
    name: str = "skip-it-runs"
    modes: tuple[str, ...] = ("freeze", "block", "early_exit", "late_entry")
    source: str = "skip-it-slopes, then KL of the candidates it puts first"
    condition: str = "functional: S6 slopes, then measured KL"
    reads: str = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) measured KL where the unit was run, in nats; see the class."""
        predicted = self.first.score(evidence, mode)
        plans = units(mode, evidence.n_layers)
        left, run = self.passes - 1.0, []
        for unit in np.argsort(predicted, kind="stable").tolist():
            cost = candidate_passes(plans[unit], evidence.n_layers)
            if cost > left:
                break
            left -= cost
            run.append(unit)
        if not run:
            return predicted
        measured = [one.kl_skipped_full for one in evidence.candidates([plans[i] for i in run])]
        found = np.maximum(predicted, max(measured))
        found[run] = measured
        return found


def _slopes(rule: SkipItSlopes, evidence: Evidence, mode: str) -> list[Slopes]:
    """The slopes of a mode, one object per kind, on the rule's images."""
    kept = set(list(dict.fromkeys(evidence.groups))[: rule.images])
    vlm = evidence.vlm
    items = [item for item in evidence.items if item.group in kept]

    def of(kind: str) -> Slopes:
        passes = sum(slope_passes(evidence.n_layers, (kind,)).values())
        return evidence.measured(
            f"slopes {kind}, {len(kept)} images",
            lambda: measure_slopes(vlm, items, kinds=(kind,), at=_MIDDLE, size=evidence.size),
            passes=passes * len(items) / len(evidence.items),
        )

    return [of(kind) for kind in _KINDS[mode]]


def _change(found: list[Slopes], mode: str) -> NDArray[np.float64]:
    """(n, units, k) first-order change of the logits of every unit of a mode."""
    per_layer = sum((one.changes[kind] for one, kind in zip(found, _KINDS[mode], strict=True)), 0.0)
    layers = np.asarray(per_layer)
    if mode == "early_exit":
        return np.asarray(np.cumsum(layers[:, ::-1], axis=1)[:, ::-1][:, 1:])
    if mode == "late_entry":
        return np.cumsum(layers, axis=1)[:, :-1]
    return layers


def _predicted(
    rule: SkipItSlopes, evidence: Evidence, mode: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = _slopes(rule, evidence, mode)
    return found[0].predicted(_change(found, mode))


def _geometric(evidence: Evidence, mode: str) -> list[list[Bound]]:
    """Per unit, what G-F and P-F say of the token group a mode moves."""
    if mode not in _GROUP:
        return [[] for _ in units(mode, evidence.n_layers)]
    profile, group = evidence.profile, _GROUP[mode]
    at = profile.tail_grid.index(_TAIL)
    return [
        [
            functional_gap_from_cosine(float(mean)),
            functional_gap_from_tail(tails[at].value, threshold=_TAIL),
        ]
        for mean, tails in zip(
            profile.values(group, "cosine_distance"), profile.tails[group], strict=True
        )
    ]
