"""`Certificate`: an upper confidence bound on the loss of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from estimators.record import Record
from theory._validate import check_choice, check_count, check_fraction, check_number

RANGES = {"disagreement": (0.0, 1.0), "accuracy_drop": (-1.0, 1.0), "length_change": (0.0, 1.0)}
METHODS = (
    "anytime",
    "betting",
    "clopper-pearson",
    "empirical-bernstein",
    "harm",
    "hoeffding",
    "hoeffding-bentkus",
)

#: Share of answers cut at their length limit above which a sentence has to say so.
AT_LIMIT = 0.01


@dataclass(frozen=True)
class Certificate(Record):
    """An upper confidence bound on a mean over images, compared with a tolerance epsilon.

    Attributes:
        quantity: "disagreement" (share of answers that change, in [0, 1], label-free; of an
            image, averaged over images),
            "accuracy_drop" (accuracy of the full model minus accuracy of the skipped model) or
            "length_change" (difference of the lengths of both answers, as a share of the longer
            one).
        epsilon: tolerance, in (0, 1).
        delta: maximum probability that `bound` is below the true mean, in (0, 1).
        n_images: number of independent units, images unless `unit_word` says otherwise.
        bound: upper confidence bound, dimensionless.
        holds: whether bound <= epsilon.
        estimate: sample mean over images of the bounded quantity.
        method: type of the bound, one of `METHODS`.
        checked: conditions verified on the data.
        assumed: conditions that cannot be verified on the data.
        label_free: whether an accuracy drop was bounded without labels, by the disagreement;
            `estimate` is then the sample disagreement.
        data_hash: hash of the data, for provenance.
        plan_hash: hash of the plan, for provenance.
        model: name of the model.
        fingerprint: hash of the model's weights, dtype and attention.
        ledger: what a ledger says about earlier uses of these images; without one the sentence
            says that the certificate assumes there were none.
        caveats: what else the sentence has to say.
        max_new_tokens: longest answer that was compared, in tokens; 1 for the first answer token;
            None if the values are not of a model's answers.
        share_at_limit: share of the full model's answers that reached that length without
            ending; None if not known. Where it is above `AT_LIMIT`, the sentence says so.
        n_unlabelled: number of questions without a label; in an accuracy drop they count as lost
            where their answer changed, the worst case.
        unit_word: what the independent units are, in the singular: "image", "recording", "text".

    Raises:
        ValueError: unknown quantity or method, a method that cannot bound the quantity, epsilon
            or delta outside (0, 1), no images, or `holds` contradicts `bound`.

    Example:
        >>> from theory import certify_mean
        >>> values = [0.0] * 298 + [1.0] + [0.0]
        >>> cert = certify_mean(
        ...     values, range(300), quantity="disagreement", epsilon=0.02, delta=0.05
        ... )
        >>> print(cert)
        disagreement <= 0.0158 with probability 95 % (300 images, clopper-pearson):
        holds at epsilon 0.02; assuming these 300 images were not used before
    """

    SCHEMA_VERSION: ClassVar[int] = 4

    quantity: str
    epsilon: float
    delta: float
    n_images: int
    bound: float
    holds: bool
    estimate: float
    method: str
    checked: tuple[str, ...]
    assumed: tuple[str, ...]
    label_free: bool = False
    data_hash: str = ""
    plan_hash: str = ""
    model: str = ""
    fingerprint: str = ""
    ledger: str = ""
    caveats: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    share_at_limit: float | None = None
    n_unlabelled: int = 0
    unit_word: str = "image"

    def __post_init__(self) -> None:
        if self.label_free and self.quantity != "accuracy_drop":
            raise ValueError(f"label_free applies to an accuracy_drop, not to a {self.quantity}")
        bounded = "disagreement" if self.label_free else self.quantity
        check_request(bounded, self.epsilon, self.delta, self.method)
        if check_count(self.n_images, "n_images", least=0) < 1:
            raise ValueError(f"a certificate needs at least one image, got {self.n_images}")
        if math.isnan(check_number(self.bound, "bound")):
            raise ValueError("bound must be a number, got nan")
        if self.holds != (self.bound <= self.epsilon):
            raise ValueError(
                f"holds={self.holds} contradicts bound {self.bound} and epsilon {self.epsilon}"
            )

    @property
    def subject(self) -> str:
        """What is bounded, in words."""
        return self.quantity.replace("_", " ")

    def sentence(self) -> str:
        """The certificate in one sentence, with the bound rounded up, and what it leaves open."""
        bound = math.ceil(self.bound * 1e4 - 1e-9) / 1e4
        free = ", label-free" if self.label_free else ""
        verdict = "holds" if self.holds else "does NOT hold"
        of = ""
        if self.max_new_tokens is not None:
            of = f" of {changed_things(self.max_new_tokens)}"
        lost = ""
        if self.n_unlabelled and not self.label_free and self.quantity == "accuracy_drop":
            n, plural = self.n_unlabelled, self.n_unlabelled > 1
            lost = f", {n} question{'s' * plural} without a label "
            lost += f"count{'' if plural else 's'} as lost if changed"
        units = f"{counted(self.n_images, self.unit_word)}, {self.method}{free}{lost}"
        return (
            f"{self.subject}{of} <= {bound:.4f} with probability "
            f"{confidence(self.delta)} ({units}): "
            f"{verdict} at epsilon {self.epsilon:g}"
            f"{unspoken(self.max_new_tokens, self.share_at_limit)}"
            f"{''.join(f'; {caveat}' for caveat in self.caveats)}"
            f"; {self.ledger or f'assuming {unused(self.n_images, self.unit_word)}'}"
        )

    def __str__(self) -> str:
        return self.sentence()


def confidence(delta: float) -> str:
    """1 - delta for a sentence, with enough digits that it is never 100 %.

    >>> confidence(0.05), confidence(1e-7), confidence(1e-300)
    ('95 %', '99.99999 %', '1 - 1e-300')
    """
    texts = (f"{100.0 * (1.0 - delta):.{digits}g}" for digits in range(6, 16))
    return next((f"{text} %" for text in texts if text != "100"), f"1 - {delta:g}")


def counted(n: int, unit_word: str) -> str:
    """A number of units, for a sentence.

    >>> counted(1, "image"), counted(1200, "recording")
    ('1 image', '1,200 recordings')
    """
    return f"{n:,} {unit_word}{'s' * (n != 1)}"


def unused(n: int, unit_word: str = "image") -> str:
    """The condition that only a record of earlier uses can show.

    >>> unused(300), unused(1, "recording")
    ('these 300 images were not used before', 'this recording was not used before')
    """
    if n == 1:
        return f"this {unit_word} was not used before"
    return f"these {counted(n, unit_word)} were not used before"


def changed_things(max_new_tokens: int) -> str:
    """What was compared, for a sentence.

    >>> changed_things(1), changed_things(64)
    ('first answer tokens', 'answers up to 64 tokens')
    """
    return f"answers up to {max_new_tokens} tokens" if max_new_tokens > 1 else "first answer tokens"


def unspoken(max_new_tokens: int | None, share_at_limit: float | None) -> str:
    """The end of a sentence where more than `AT_LIMIT` of the answers were cut, else nothing.

    >>> unspoken(64, 0.97)
    "; 97 % of the full model's answers reach 64 tokens, and nothing is said about what follows"
    """
    if max_new_tokens is None or share_at_limit is None or share_at_limit <= AT_LIMIT:
        return ""
    return (
        f"; {100 * share_at_limit:.3g} % of the full model's answers reach {max_new_tokens} "
        "tokens, and nothing is said about what follows"
    )


def check_request(quantity: str, epsilon: float, delta: float, method: str) -> None:
    """Validate a request for a certificate.

    Raises:
        ValueError: unknown quantity or method, a method that cannot bound the quantity, epsilon
            or delta outside (0, 1).
    """
    for name, given, known in (("quantity", quantity, RANGES), ("method", method, METHODS)):
        check_choice(given, name, known)
    check_method(quantity, method)
    check_fraction(epsilon, "epsilon")
    check_fraction(delta, "delta")


def check_method(quantity: str, method: str) -> None:
    """Raise a `ValueError` if a known method cannot bound a known quantity."""
    if method == "clopper-pearson" and quantity != "disagreement":
        instead = "harm (asked once per image), " if quantity == "accuracy_drop" else ""
        raise ValueError(
            f"clopper-pearson counts failures and cannot bound a {quantity}; "
            f"use {instead}betting or hoeffding"
        )
    if method == "harm" and quantity != "accuracy_drop":
        raise ValueError(f"harm bounds an accuracy_drop, not a {quantity}; use clopper-pearson")
