"""Joint certificates with the plan, model, data and ledger that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from theory.certificates import Certificate, GroupCertificates, RiskCertificates
from theory.certificates.certificate import changed_things, unspoken, unused
from vlm_bridge.evaluate.scorers import Scorer


@dataclass(frozen=True)
class ScoreCertificate(Certificate):
    """A certificate of the drop of a mean score other than accuracy, in place of accuracy itself.

    Attributes:
        scorer: name of the score, in [0, 1]; its drop is full minus skipped, in [-1, 1].

    Raises:
        ValueError: as `theory.Certificate`; another quantity than "accuracy_drop".
    """

    scorer: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantity != "accuracy_drop" or not self.scorer:
            raise ValueError(
                f"a score certificate bounds the drop of a named score, got {self.quantity} of "
                f"'{self.scorer}'"
            )

    @property
    def subject(self) -> str:
        """What is bounded, in words."""
        return f"drop of the score {self.scorer}"


def of_score(certificate: Certificate, scorer: Scorer) -> Certificate:
    """A certificate of an accuracy drop as one of another score, if it is of another."""
    if certificate.quantity != "accuracy_drop" or not scorer.settings:
        return certificate
    values = {field.name: getattr(certificate, field.name) for field in fields(certificate)}
    values["checked"] = (*certificate.checked, f"{scorer.name} is {scorer.claim}; in [0, 1]")
    return ScoreCertificate(**values, scorer=scorer.name)


@dataclass(frozen=True)
class GroupsOfPlan(GroupCertificates):
    """Certificates of a plan for every kind of question; each names plan, model and ledger.

    Attributes:
        data_hash: hash of all questions; each certificate has that of its own.

    Raises:
        ValueError: as `theory.certificates.GroupCertificates`.
    """

    data_hash: str = ""

    def sentence(self) -> str:
        """The sentence of the groups, with what was compared, and what it leaves open."""
        made = list(self.certificates.values())
        said = [part for each in made for part in (*each.caveats, each.ledger) if part]
        if not all(each.ledger for each in made):
            said.append("assuming these questions were not used before")
        longest = made[0].max_new_tokens
        of = "" if longest is None else f"; {changed_things(longest)} were compared"
        return f"{super().sentence()}{of}{''.join(f'; {part}' for part in dict.fromkeys(said))}"


@dataclass(frozen=True)
class RisksOfPlan(RiskCertificates):
    """Several risks of a plan, with the fields of `theory.Certificate` that say whose they are.

    Attributes:
        checked: conditions verified on the data.
        data_hash: hash of the questions.
        plan_hash: hash of the plan.
        model: name of the model.
        fingerprint: hash of the model's weights, dtype and attention.
        ledger: what a ledger says about earlier uses of these images.
        caveats: what else the sentence has to say.
        max_new_tokens: longest answer that was compared, in tokens.
        share_at_limit: share of the full model's answers that reached that length.
        n_unlabelled: number of questions without a label; in an accuracy drop they count as lost
            where their answer changed.

    Raises:
        ValueError: as `theory.certificates.RiskCertificates`.
    """

    checked: tuple[str, ...] = ()
    data_hash: str = ""
    plan_hash: str = ""
    model: str = ""
    fingerprint: str = ""
    ledger: str = ""
    caveats: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    share_at_limit: float | None = None
    n_unlabelled: int = 0

    def sentence(self) -> str:
        """The sentence of the risks, with what was compared, and what it leaves open."""
        whole = f"{super().sentence()}{''.join(f'; {part}' for part in self._open())}"
        return f"{whole}; {self.ledger or f'assuming {unused(self.n_images, self.unit_word)}'}"

    def _open(self) -> Iterator[str]:
        if self.max_new_tokens is not None:
            yield f"{changed_things(self.max_new_tokens)} were compared"
        if cut := unspoken(self.max_new_tokens, self.share_at_limit):
            yield cut.removeprefix("; ")
        if self.n_unlabelled and "accuracy_drop" in self.limits:
            yield f"questions without a label ({self.n_unlabelled}) count as lost if changed"
        yield from self.caveats
