"""Joint certificates with the plan, model, data and ledger that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from theory.certificates import GroupCertificates, RiskCertificates
from theory.certificates.certificate import changed_things, unspoken, unused


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
