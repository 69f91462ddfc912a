"""Our rules: sensitivity of the answer to the removed updates, predicted and then measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import KNOWN_REMOVAL_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Reason, Rule, check_mode

#: Number of last-run units that calibrate the predictions for units that were not run.
_NEAREST = 5


@dataclass(frozen=True, kw_only=True)
class SkipItSlopes(Rule):
    """Sensitivity of the answer to each unit, from one full pass and its derivatives.

        score_u = E sqrt(p_1 p_2) sum_t |dm/dh_t| |d_t|

    bounds the effect of the removed update d on the margin m between the two likeliest answers
    (S6, with the slope at every token in place of a Lipschitz constant; the change of text without
    vision is exact, S8), as the root of twice a KL (S7). One backward pass gives the slope along
    every layer's update; a jvp gives it for one layer (`skipit slopes`, with the S6 bound).

    The score uses lengths, not the change `<dm/dh, d>`, since a layer's update is a large step:
    freezing layer 0 of the reference VLM changes 6 answers in 10, and its slope predicts none,
    because the derivative of a norm ignores that the layer makes states 10 times as long. The score
    uses the change only if step and slope are orthogonal, so that no later layer reads the update
    (S6b). With norms held, the change predicts 1 answer in 4 for layer 0; `safe` uses it.

    `explain` also shows conditions that the score omits. Spearman with the measured KL, on 80
    tuning images of the reference VLM that chose nothing here, in freeze, block, early exit and
    late entry: this score .85, .61, .96, .37; usable information (S14) -.08, .10, .35, -.37; unique
    and synergistic vision (S9) -.79 in an exit (a probe reads it, the suffix does not use it);
    bounds from attention mass (S8) .65, .23, .96, -.35. Averaging ranks with any of them does not
    help in any mode, by bootstrap over images. Late entry does not follow depth: vision that enters
    late harms that model more than no vision at all.

    Units are scored one by one, but blocks are not additive: the first three there (25 to 27)
    change no answer of 144 alone and 5 of 20 together; ShortGPT's first three change none. Frozen
    plans of 24, 27 or 28 layers are as good as those of `skip-it`, within the noise of 20 images.

    Attributes:
        images: number of images for the slopes, at 7 forward passes each for freeze, block, exits
            and entries together, and 10 for the modes of sublayers together.
    """

    images: int = 32
    name = "skip-it-slopes"
    modes = KNOWN_REMOVAL_MODES
    source = "reconstruction of arXiv:2509.25584 (S6 slopes, cross-modal S8, S7)"
    deviation = "a rule of this project"
    condition = "functional: S6 slopes + cross-modal S8"
    origin = "ours"
    explains = True

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_units,) weighted bound on the margin's change, logits; see the class."""
        return evidence.sensitivity(self.images, mode).score(mode)

    def explain(
        self, evidence: Evidence, mode: str, *, epsilon: float = 0.02, probes: bool = False
    ) -> list[Reason]:
        """The value of each condition for every unit.

        - S6: share of questions whose margin may change by its own size, at most epsilon.
        - S7: KL of the two likeliest answers under that change, at most `epsilon^2 / 2` (then the
          total variation is at most epsilon / 2, by Pinsker).
        - G-F and P-F (block, freeze): how far directions move, at most epsilon. They ignore norms
          and the later layers: alone they are neither sufficient nor necessary (S6b).
        - With `probes`, one more pass. S14, S9: usable, and unique and synergistic, information
          about the model's own answer that the unit removes, at most `2 epsilon^2` (then no
          optimal predictor loses more than epsilon, by I-F). S8: change of a head, at most epsilon.

        Raises:
            BridgeError: epsilon outside (0, 1), another mode, too few images for probes.
        """
        _check_epsilon(epsilon)
        check_mode(self, mode, evidence.modality)
        with evidence.open_to(self.name, self.requires):
            bounds = evidence.unit_bounds(mode, images=self.images, probes=probes)
        limits = {"S7": epsilon**2 / 2, "S14": 2 * epsilon**2, "S9": 2 * epsilon**2}
        return [
            Reason(unit, bound, limits.get(bound.statement, epsilon))
            for unit, of_unit in enumerate(bounds)
            for bound in of_unit
        ]

    def safe(self, evidence: Evidence, mode: str, *, epsilon: float = 0.02) -> tuple[int, ...]:
        """Units whose predicted share of changed first answer tokens is at most epsilon.

        An explanation, not a certificate: the prediction is linear, and calls too many units of a
        trained network safe. On the toy VLM it recovers the planted truth.
        """
        _check_epsilon(epsilon)
        check_mode(self, mode, evidence.modality)
        with evidence.open_to(self.name, self.requires):
            flips = evidence.sensitivity(self.images, mode).flips(mode)
        return tuple(np.flatnonzero(flips <= epsilon).tolist())


@dataclass(frozen=True, kw_only=True)
class SkipItRuns(Rule):
    """`SkipItSlopes` corrected by candidate runs of the units it ranks safest, within a budget.

    Units are run in the order of `SkipItSlopes` until `forward_cost` forward-pass equivalents are
    spent, including the slopes and the full model's run. The prediction s from slopes errs if the
    network is not linear; the measurement `r = sqrt(2 KL(p_skip || p_full))` of the same quantity
    errs if few images dominate. A unit that was run scores `s^(1 - w) r^w`; every other unit scores
    `s (median of r / s)^w` over the units run last, whose predictions are the most similar. On
    tuning images of three models of 8 layers in six modes, Spearman is on average .81 at w = 0,
    .88 at 1/2 and 3/4, and .84 at 1 (`python -m benchmarks.weight`).

    Late entries are scored without slopes. These are local, at the states of the full model, and a
    late entry is far from it: vision enters with states that a trained layer has never seen. On
    reference-qwen2.5-vl slopes rank the seven entries backwards (Spearman -.99 with measured
    disagreement on 200 test images). That, and as much for two other models of 8 layers, was seen
    before this form was chosen, so those are no evidence for it. The whole budget goes into runs
    of evenly spread depths, first, last, middle and so on; the depths between two of them get r
    by linear interpolation.

    Attributes:
        forward_cost: budget per image; `within_forward_cost` gives other rules the same budget.
        first: the rule that orders the candidates.
        weight: of the measurement beside the prediction, from 0 to 1, in the scale of logarithms.
    """

    version: int = 2
    forward_cost: float = 16.0
    first: SkipItSlopes = SkipItSlopes()
    weight: float = 0.5
    name = "skip-it-runs"
    modes = KNOWN_REMOVAL_MODES
    source = "skip-it-slopes, then KL of the candidates it puts first"
    deviation = "a rule of this project"
    condition = "functional: S6 slopes and measured KL"
    requires = "candidate runs"
    origin = "ours"

    def within(self, forward_cost: float) -> SkipItRuns:
        """The rule with as many candidate runs as `forward_cost` passes pay for."""
        return replace(self, forward_cost=forward_cost)

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_units,) logits; see the class.

        Raises:
            BridgeError: late entries, and a budget that pays for fewer than two of them.
        """
        if mode == "late_entry":
            return self._by_depth(evidence, evidence.units(mode))
        predicted = self.first.score(evidence, mode)
        plans, n_layers = evidence.units(mode), evidence.n_layers
        left, run = self.forward_cost - evidence.sensitivity_cost(self.first.images, mode) - 1.0, []
        for unit in np.argsort(predicted, kind="stable").tolist():
            cost = (n_layers - plans[unit].first_layer) / n_layers
            if cost > left:
                break
            left -= cost
            run.append(unit)
        runs = evidence.candidates([plans[i] for i in run]) if run else []
        kl = np.array([result.kl_skipped_full for result in runs])
        return combined(predicted, run, kl, self.weight)

    def _by_depth(self, evidence: Evidence, plans: list[SkipPlan]) -> Floats:
        """Measured at some depths, the first and the last among them, and interpolated between."""
        runs = int(self.forward_cost - 1.0 + 1e-9)  # an entry runs every layer, as the full model
        if runs < min(2, len(plans)):
            raise BridgeError(
                f"rule '{self.name}' compares at least two entries with the full model, which "
                f"costs 3 forward passes; the budget is {self.forward_cost:g}"
            )
        depths = sorted(coarse_to_fine(len(plans))[:runs])
        measured = evidence.candidates([plans[depth] for depth in depths])
        roots = [np.sqrt(2.0 * run.kl_skipped_full) for run in measured]
        return np.asarray(np.interp(np.arange(len(plans)), depths, roots))


def coarse_to_fine(n: int) -> list[int]:
    """0 to n - 1 in an order whose first numbers are always spread: ends first, then middles.

    >>> coarse_to_fine(9)
    [0, 8, 4, 2, 6, 1, 3, 5, 7]
    """
    order = dict.fromkeys([0, n - 1])
    gaps = [(0, n - 1)]
    for low, high in gaps:  # grows while it is read
        if high - low > 1:
            middle = (low + high) // 2
            order[middle] = None
            gaps += [(low, middle), (middle, high)]
    return list(order)


def combined(predicted: Floats, run: list[int], kl: Floats, weight: float = 0.5) -> Floats:
    """Scores of `SkipItRuns`: (n_units,) s, units in their order of running, their KL in nats.

    Example:
        >>> combined(np.array([1.0, 1.0, 4.0]), [0, 1], np.array([2.0, 2.0]))
        array([1.41421356, 1.41421356, 5.65685425])
    """
    measured = np.sqrt(2.0 * kl)
    positive = (predicted[run] > 0) & (measured > 0)
    last = (measured[positive] / predicted[run][positive])[-_NEAREST:]
    scores = predicted * (np.median(last) if last.size else 1.0) ** weight
    scores[run] = predicted[run] ** (1 - weight) * measured**weight
    return np.asarray(scores)


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
