"""`WholePath`: all results of a run on one model, and what they say in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from estimators import Estimate, Profile
from estimators.record import Record
from theory import Certificate, what_it_takes
from theory.certificates import AT_LIMIT
from theory.certificates.certificate import confidence, counted
from vlm_bridge.cost import Cost
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.compare_answers import AnswerComparison
from vlm_bridge.experiments.whole_path.outlook import Outlook
from vlm_bridge.rules.scores import RuleScores
from vlm_bridge.selection import CertifiedPlan


@dataclass(frozen=True)
class WholePath(Record):
    """Profile, scores, search, certificates, comparison and cost of one run.

    Parts that are not measured (yet), or that need a certified plan where there is none, are None.

    Attributes:
        model, fingerprint: name and fingerprint of the model.
        command: that made the run.
        modality: what its modality tokens hold, as "vision".
        outlook: what was expected before the run.
        profile: of the profiling images.
        profile_null: of a copy with random weights.
        scores: of the rule.
        search: the candidates that were tested, and the certified plan.
        certificates: of the disagreement and, with labels, of the accuracy drop, which follows.
        comparison: of the certified plan, on the test images.
        answers: scores, harm by length and speed, on the test images.
        cost: of one prompt at a time.
    """

    model: str
    fingerprint: str
    command: str
    modality: str
    outlook: Outlook
    profile: Profile | None = None
    profile_null: Profile | None = None
    scores: RuleScores | None = None
    search: CertifiedPlan | None = None
    certificates: tuple[Certificate, ...] = ()
    comparison: Comparison | None = None
    answers: AnswerComparison | None = None
    cost: Cost | None = None

    def headline(self) -> str:
        """What the run found, in one sentence: time saved and answers changed, or why neither."""
        if self.search is None:
            return "the run is not finished"
        if self.search.certificate is None:
            return _nothing(self.search, self.outlook)
        made, cost = self.search.certificate, self.cost
        time = (
            "the time is not measured" if cost is None else time_saved(cost.prefill.latency_ratio)
        )
        return (
            f"{time}; at most {100 * made.bound:.3g} % of "
            f"answers{_length(made)} change, with {confidence(made.delta)} confidence "
            f"({counted(made.n_images, made.unit_word)}){self._doubt()}"
        )

    def _doubt(self) -> str:
        """What makes equal answers worth little: a full model that is wrong, or cut answers."""
        if self.comparison is None:
            return ""
        right, cut = self.comparison.accuracy_full, self.comparison.share_at_limit
        said = []
        if right is not None and right.interval[0] <= 0.0:
            said.append(f"the full model is right in {right.value:.0%} of the test questions")
        if cut is not None and cut > AT_LIMIT:
            said.append(f"{cut:.0%} of its test answers were cut at their longest length")
        return f". WARNING: {', and '.join(said)}" if said else ""


def _length(certificate: Certificate) -> str:
    longest = certificate.max_new_tokens
    return "" if longest is None else f" up to {longest} tokens"


def time_saved(ratio: Estimate) -> str:
    """The time to the first token in words, from the ratio skipped/full of single prompts.

    Example:
        >>> time_saved(Estimate(value=0.75, interval=(0.7, 0.8), n=15, method="demo"))
        '25.0% (20.0% to 30.0%) less time to the first token'
        >>> time_saved(Estimate(value=0.99, interval=(0.9, 1.1), n=15, method="demo"))
        'no time is shown to be saved (time to the first token, skipped/full: 0.99, 0.90 to 1.10)'
    """
    low, high = ratio.interval
    if not ratio.reliable:
        return f"no time is shown to be saved ({ratio.reason})"
    if high < 1:
        saved = f"{1 - ratio.value:.1%} ({1 - high:.1%} to {1 - low:.1%})"
        return f"{saved} less time to the first token"
    if low > 1:
        return f"no time is saved: {ratio.value - 1:.1%} more time to the first token"
    return (
        "no time is shown to be saved (time to the first token, skipped/full: "
        f"{ratio.value:.2f}, {low:.2f} to {high:.2f})"
    )


def _nothing(search: CertifiedPlan, outlook: Outlook) -> str:
    """Why no plan is certified."""
    reach = outlook.reach
    head = (
        f"no plan could be certified at epsilon {reach.epsilon:g} "
        f"({counted(reach.n_images, reach.unit_word)})"
    )
    if not search.path:
        return f"{head}: every candidate changed more tuning answers than that, or saves nothing"
    return "; ".join([head, *map(what_it_takes, search.certificates)])
