"""Our rule: what the answer can feel of what a skip takes away."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from estimators.clustered import image_mean
from theory.conditions import (
    Bound,
    functional_gap_from_cosine,
    functional_gap_from_tail,
    kl_from_logit_change,
    margin_certificate,
)
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.units import units
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure.candidates import candidate_passes
from vlm_bridge.rules.measure.information import bounds_of, state_conditions
from vlm_bridge.rules.measure.sensitivity import (
    MODES,
    MarginSensitivity,
    measure_sensitivity,
    sensitivity_passes,
)
from vlm_bridge.rules.protocol import Origin, RuleBase, check_mode

_GROUP = {"freeze": "image", "block": "text"}
_TAIL = 0.1
#: So many of the units run last say what a prediction is worth where none was run.
_NEAREST = 5
_LINEAR = "the network is linear, norms held, along what the skip takes away"


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


@dataclass(frozen=True, kw_only=True)
class SkipItSlopes(RuleBase):
    """What the answer can feel of a unit, from one full pass and its derivatives; no skipped run.

    `score_u = E sqrt(p_1 p_2) sum_t |dm/dh_t| |d_t|`: how far what the unit takes away
    could move the margin between the two likeliest answers (S6 with the slope at every token in
    place of a Lipschitz constant; what text loses without vision is exact, S8), as the root of
    twice a KL (S7). One reverse-mode derivative has the slope along every layer's update, which a
    jvp gives for one layer: `skipit slopes` measures those, and the S6 bound beside them.

    Why lengths, and not the change `<dm/dh, d>` that slopes predict: a layer's update is no small
    step. Freezing layer 0 of the reference VLM changes 6 answers in 10, and the slope along it
    predicts none: the states are 10 times as long behind that layer, and a norm that divides by
    this hides from its derivative what is gone without it. Over such steps the directions that
    reach the answer mix; what stays is how much reaches it. Only where step and slope are
    orthogonal does the change count: nothing reads what the unit writes (S6b). That change is
    with norms held, which predicts 1 answer in 4 there; `safe` goes by it.

    Measured, shown by `explain`, and left out of the score. On 80 tuning images of the reference
    VLM that chose nothing here, Spearman with the measured KL in freeze, block, early exit and
    late entry: this score .85, .61, .96, .37; usable information (S14) -.08, .10, .35, -.37;
    unique and synergistic vision (S9) -.79 in an exit (a probe finds it where the later layers do
    not use it); bounds from attention mass (S8) .65, .23, .96, -.35. The mean of its rank with any
    of theirs is worse or no better in every mode, by bootstrap over images. Late entry does not
    follow depth: later layers misread vision states that enter unprocessed, which harms that model
    more than no vision at all.

    Units are judged one by one, and that is not how blocks add up. The three it puts first there
    (25 to 27) change no answer of 144 alone and 5 of 20 together, where ShortGPT's first three
    change none. A frozen plan of 24, 27 or 28 layers is as good by this rule as by `skip-it`
    within the noise of 20 images.

    Attributes:
        images: slopes are measured on the first so many images; 7 forward-pass equivalents each,
            for all modes together.
    """

    images: int = 32
    name: str = "skip-it-slopes"
    modes: tuple[str, ...] = MODES
    source: str = "reconstruction of arXiv:2509.25584 (S6 slopes, cross-modal S8, S7)"
    condition: str = "functional: S6 slopes + cross-modal S8"
    requires: str = "forward pass"
    origin: Origin = "ours"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) weighted bound on the margin's change, logits; see the class."""
        return self.sensitivity(evidence).score(mode)

    def sensitivity(self, evidence: Evidence) -> MarginSensitivity:
        """The sensitivity of the margin on the rule's images, in all modes, measured once."""
        items = self._items(evidence)
        return evidence.measured(
            f"slopes of the margin, {len({item.cluster for item in items})} images",
            lambda: measure_sensitivity(evidence.vlm, items, batch_size=evidence.batch_size),
            forward_cost=self.forward_cost(evidence),
        )

    def forward_cost(self, evidence: Evidence) -> float:
        """Cost of `sensitivity`, in forward passes over all of the evidence."""
        share = len(self._items(evidence)) / max(1, len(evidence.items))
        return sum(sensitivity_passes().values()) * share

    def _items(self, evidence: Evidence) -> list[Item]:
        kept = set(list(dict.fromkeys(evidence.clusters))[: self.images])
        return [item for item in evidence.items if item.cluster in kept]

    def explain(
        self, evidence: Evidence, mode: str, *, epsilon: float = 0.02, probes: bool = False
    ) -> list[Reason]:
        """What each condition says about every unit, unit by unit.

        - S6: share of questions whose likeliest answer may change, at most epsilon: the change of
          the margin reaches the margin.
        - S7: KL of the two likeliest answers from that change, at most `epsilon^2 / 2` (then the
          total variation is at most epsilon / 2, by Pinsker).
        - G-F and P-F (block, freeze): how far directions move, at most epsilon. They see no
          norms and no later layers: alone they are neither sufficient nor necessary (S6b).
        - S14, S9 (with probes): usable, and unique and synergistic, information about the model's
          own answer that goes with the unit, at most `2 epsilon^2` (then no optimal predictor
          loses more than epsilon, by I-F). S8: a head's change, at most epsilon.

        Args:
            evidence: what may be looked at.
            mode: one of `modes`.
            epsilon: share of answers that may change.
            probes: also the conditions of `information.py`; one more pass over all questions.

        Raises:
            BridgeError: epsilon outside (0, 1), another mode, too few images for probes.
        """
        _check_epsilon(epsilon)
        check_mode(self, mode)
        with evidence.open_to(self.name, self.requires):
            found = self.sensitivity(evidence)
            geometric = _geometric(evidence, mode)
            states = state_conditions(evidence) if probes else None
        flips = found.flips(mode)
        reasons = []
        for unit in range(found.change[mode].shape[1]):
            size = np.abs(found.change[mode][:, unit])
            # Two logits that move by at most |dm|/2 each change their margin by at most |dm|.
            share = margin_certificate(size / 2.0, found.margins, lipschitz=1.0)
            kl = [kl_from_logit_change([one, 0.0]).value for one in size]
            osc = Bound(
                quantity="mean KL between the two likeliest answers, either way",
                value=float(image_mean(np.array(kl), found.clusters)),
                unit="nats",
                statement="S7",
                assumed=(_LINEAR,),
            )
            reasons += [
                # By image, as everywhere: an image's questions are not independent.
                Reason(unit, replace(share, value=float(flips[unit]), assumed=(_LINEAR,)), epsilon),
                Reason(unit, osc, epsilon**2 / 2),
            ]
            reasons += [Reason(unit, bound, epsilon) for bound in geometric[unit]]
            for bound in [] if states is None else bounds_of(states, mode, unit):
                limit = 2 * epsilon**2 if bound.unit == "nats" else epsilon
                reasons.append(Reason(unit, bound, limit))
        return reasons

    def safe(self, evidence: Evidence, mode: str, *, epsilon: float = 0.02) -> tuple[int, ...]:
        """Units whose predicted share of changed first answer tokens is at most epsilon.

        A prediction to explain by, not a certificate: on a trained network it calls too much safe,
        since it is linear. On the toy VLM it is the planted truth.

        Raises:
            BridgeError: as `explain`.
        """
        _check_epsilon(epsilon)
        check_mode(self, mode)
        with evidence.open_to(self.name, self.requires):
            flips = self.sensitivity(evidence).flips(mode)
        return tuple(np.flatnonzero(flips <= epsilon).tolist())


@dataclass(frozen=True, kw_only=True)
class SkipItRuns(RuleBase):
    """Our rule with candidate runs: the safest-looking units are run, within a budget.

    Units are run in the order of `SkipItSlopes` until `forward_cost` forward-pass equivalents are
    spent, including the slopes and the run of the full model. The slopes' prediction s and the
    measured `r = sqrt(2 KL(p_skip || p_full))` estimate the same effect; s misses what is not
    linear, r is noisy because few images dominate a mean of KL. A unit that was run scores
    `sqrt(s r)`; any other unit scores `s sqrt(median of r / s)`, the median over the units that
    ran last.

    Attributes:
        forward_cost: budget per image; `within_forward_cost` gives any other rule the same.
        first: the rule that orders the candidates.
    """

    forward_cost: float = 16.0
    first: SkipItSlopes = SkipItSlopes()
    name: str = "skip-it-runs"
    modes: tuple[str, ...] = MODES
    source: str = "skip-it-slopes, then KL of the candidates it puts first"
    condition: str = "functional: S6 slopes and measured KL"
    requires: str = "candidate runs"
    origin: Origin = "ours"

    def within(self, forward_cost: float) -> SkipItRuns:
        """Itself with as many candidate runs as `forward_cost` passes pay for."""
        return replace(self, forward_cost=forward_cost)

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) logits; see the class."""
        predicted = self.first.score(evidence, mode)
        plans = units(mode, evidence.n_layers)
        left, run = self.forward_cost - self.first.forward_cost(evidence) - 1.0, []
        for unit in np.argsort(predicted, kind="stable").tolist():
            cost = candidate_passes(plans[unit], evidence.n_layers)
            if cost > left:
                break
            left -= cost
            run.append(unit)
        runs = evidence.candidates([plans[i] for i in run]) if run else []
        return both_readings(predicted, run, np.array([one.kl_skipped_full for one in runs]))


def both_readings(
    predicted: NDArray[np.float64], run: list[int], kl: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Geometric mean of prediction and measurement where there is one; see `SkipItRuns`.

    Args:
        predicted: (n_units,) s, at least 0.
        run: the units that were run, in that order.
        kl: (len(run),) what was measured, nats.

    Example:
        >>> both_readings(np.array([1.0, 1.0, 4.0]), [0, 1], np.array([2.0, 2.0]))
        array([1.41421356, 1.41421356, 5.65685425])
    """
    measured = np.sqrt(2.0 * kl)
    told = (predicted[run] > 0) & (measured > 0)
    last = (measured[told] / predicted[run][told])[-_NEAREST:]
    ratio = np.median(last) if last.size else 1.0
    found = predicted * np.sqrt(ratio)
    found[run] = np.sqrt(predicted[run] * measured)
    return np.asarray(found)


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")


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
