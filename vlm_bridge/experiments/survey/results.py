"""What a survey of one stack of one model measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from estimators import Estimate, Profile
from estimators.record import Record
from vlm_bridge.cost import Cost
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.controls import Controlled, Knockout
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import STACKS
from vlm_bridge.selection import CertifiedPlan


@dataclass(frozen=True)
class Quality(Record):
    """How good a model is on labelled questions.

    Attributes:
        accuracy: share of right answers; None without labels.
        word_errors: word error rate; None unless the labels are transcripts.
        same: share of answers that equal the full model's.
    """

    accuracy: Estimate | None
    word_errors: Estimate | None
    same: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Survey(Record):
    """A survey of one stack of one model.

    Attributes:
        model, fingerprint, modality: name, fingerprint, and what its modality tokens hold.
        stack, n_layers: the stack, and its number of layers.
        sources: lines that name whose models and data were used, and their licences.
        data: role (`data`, `certification`, `test`, `training`) -> name of the questions; only
            those that were given.
        counts: role -> number of units; of `random`, those that the random copy was asked.
        questions: role -> number of questions about them.
        unit: what the units are, in the plural.
        max_new_tokens: longest answer, in tokens.
        full: the full model on the test questions, or on `data` without any.
        random: a copy with random weights, on the first of them; None if it was not asked.
        other: the full model, shown the image or recording of another unit with every test
            question; None where the questions are texts.
        blind: accuracy of the most frequent training answer; None without training questions.
        singles: every single skip against the full model on `data`, by whole answers.
        agreement: share of next tokens that stay under each of `singles`; empty where the data are
            no texts.
        profile, profile_random: of the stack on `data`, and of the random copy.
        slopes: kind of skip -> predicted KL of the first token by layer, in nats; empty where
            slopes do not exist, for the reason in `no_slopes`.
        knockouts: text's attention to modality tokens knocked out band by band, on `data`; empty
            where the stack is no decoder or holds no such tokens.
        epsilon, delta: of the search.
        candidates: number of plans that the search was given.
        search: the search; None without certification questions.
        tested, cost: the certified plan on the test questions, and its cost; None without one.
        controls: it beside random plans of its size, on the first of the test questions; None if
            there is no plan.
        machine: device, versions, command.
        seconds: wall time of the run that finished it.
    """

    model: str
    fingerprint: str
    modality: str
    stack: str
    n_layers: int
    sources: tuple[str, ...]
    data: Mapping[str, str]
    counts: Mapping[str, int]
    questions: Mapping[str, int]
    unit: str
    max_new_tokens: int
    full: Quality
    random: Quality | None
    other: Quality | None
    blind: Estimate | None
    singles: tuple[Comparison, ...]
    agreement: tuple[Estimate, ...]
    profile: Profile
    profile_random: Profile
    slopes: Mapping[str, tuple[float, ...]]
    no_slopes: str
    knockouts: tuple[Knockout, ...] = ()
    epsilon: float
    delta: float
    candidates: int
    search: CertifiedPlan | None
    tested: Comparison | None
    cost: Cost | None
    controls: Controlled | None = None
    machine: Mapping[str, str]
    seconds: float

    def __post_init__(self) -> None:
        if self.stack not in STACKS:
            raise ValueError(f"no stack '{self.stack}'")
        if not 1 <= self.n_layers == self.profile.n_layers == self.profile_random.n_layers:
            raise ValueError(f"{self.n_layers} layers, but profiles of {self.profile.n_layers}")
        if not self.singles:
            raise ValueError("a survey has single skips")
        for single in self.singles:
            if (single.plan.stack, single.plan.n_layers) != (self.stack, self.n_layers):
                raise ValueError(f"a single skip is of another stack: {single.plan.describe()}")
        if self.agreement and len(self.agreement) != len(self.singles):
            raise ValueError(f"{len(self.agreement)} agreements of {len(self.singles)} skips")
        if wrong := [kind for kind, of in self.slopes.items() if len(of) != self.n_layers]:
            raise ValueError(f"slopes '{wrong[0]}' are not of {self.n_layers} layers")
        if missing := {"data", "certification", "test", "random"} - (
            set(self.counts) & set(self.questions)
        ):
            raise ValueError(f"no count of {min(missing)} questions")

    @property
    def certified(self) -> SkipPlan | None:
        """The largest certified plan; None if there is none."""
        found = self.search
        return found.plan if found is not None and found.certificate is not None else None
