"""A certificate that grows: images are added until it holds, and looking costs nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from estimators import cluster_means
from estimators.record import Record
from theory import Certificate, certify_mean
from vlm_bridge.data import Item, image_ids, unit_word
from vlm_bridge.data.disjoint import cluster_id, overlap
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.certify import check_certifiable
from vlm_bridge.evaluate.from_outcomes import signed
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.paired import paired_outcomes
from vlm_bridge.evaluate.spending import check_answerable
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger, run_hash

#: Images between two looks.
LOOK = 50


@dataclass(frozen=True)
class GrowingCertificate(Record):
    """An anytime certificate, and what more images need to continue it.

    Attributes:
        certificate: of the disagreement, by the method anytime, at this number of images.
        clusters: the images so far, in the order in which they were asked.
        values: share of the changed answers of each image.
        identities: what a ledger knows of all images that were offered, sorted.
        n_questions: number of questions so far.
        n_at_limit: how many full answers reached the longest length without ending.
        counted: identities of the images so far and of what else their questions are about, sorted.

    Raises:
        ValueError: lengths that differ, or a certificate by another method.
    """

    SCHEMA_VERSION: ClassVar[int] = 3  # 2 did not know what it had counted, 1 had other bets

    certificate: Certificate
    clusters: tuple[str, ...]
    values: tuple[float, ...]
    identities: tuple[str, ...]
    n_questions: int
    n_at_limit: int
    counted: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.clusters) == len(self.values) == self.certificate.n_images:
            raise ValueError(f"{len(self.clusters)} images have {len(self.values)} values")
        if self.certificate.method != "anytime":
            raise ValueError(f"the certificate is by {self.certificate.method}, not anytime")


def certify_anytime(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan | str,
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    look: int = LOOK,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    earlier: GrowingCertificate | None = None,
    ledger: Ledger | str | Path | None = None,
    keep: Callable[[GrowingCertificate], None] | None = None,
) -> GrowingCertificate:
    """Bound the disagreement with one image after another, until it is at most epsilon.

    `theory.certificates.anytime_upper_bound` holds at every number of images at once, so the run
    looks after every `look` images and stops at the first success. If it does not hold at the end,
    pass the result as `earlier` with more images: what was asked is not asked again. Fixed in
    advance, the same number of images certifies a little more (`certify`).

    The order of `items` does not matter: new images are asked in a random order, by the SHA-256 of
    their identities, so that a file sorted by kind of question is no longer sorted. Each call must
    still bring a random sample of what the claim is about; images of one kind first and of another
    kind in a later call are none.

    A ledger is charged delta once, however often images are added; images that something else was
    certified on are refused unless delta is left for both.

    Args:
        vlm: the model.
        items: certification questions in any order; questions of images in `earlier` are left out.
        plan: chosen without looking at `items`.
        epsilon: the run stops when the bound is at most this; it may be another one later.
        delta: probability that the bound is ever wrong.
        look: images between two looks.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        earlier: result of an earlier call with the same model, plan, delta and lengths.
        ledger: as in `certify`.
        keep: is called with the result at every look, for example to store it.

    Raises:
        BridgeError: as `certify`; no new images and nothing earlier; `earlier` is of another model,
            plan, delta or length; or a new unit shares an image with one that was counted.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    _check_look(look)
    asked = tuple(check_items(items))
    seen = frozenset() if earlier is None else frozenset(earlier.clusters)
    new = [item for item in asked if item.cluster not in seen]
    check_certifiable(vlm, plan, new)
    if earlier is None and not new:
        raise BridgeError("there are no items to certify on")
    if earlier is not None:
        _check_continues(earlier, vlm, plan, max_new_tokens)
        _check_not_counted(earlier, new)
    sizes: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    ids = tuple(sorted({*image_ids(new), *(() if earlier is None else earlier.identities)}))
    spending = None
    if ledger is not None:
        if new:
            check_answerable(vlm, new, plan, **sizes)
        who = {"model": vlm.name, "fingerprint": vlm.fingerprint}
        how: Any = {"what": "anytime", "version": GrowingCertificate.SCHEMA_VERSION, **who}
        key = run_hash(plan=plan.hash(), delta=delta, longest=max_new_tokens, **how)
        spending = Ledger.of(ledger).spend(ids, delta, what="certification", key=key, **who)
        delta = spending.delta
    if earlier is not None and earlier.certificate.delta != delta:
        raise BridgeError(
            f"the earlier certificate has delta {earlier.certificate.delta:g}, not {delta:g}; "
            "delta is fixed with the first images"
        )
    word = unit_word(asked, 1)

    def certified(at: _Seen) -> GrowingCertificate:
        made = at.certificate(
            plan, epsilon=epsilon, delta=delta, max_new_tokens=max_new_tokens, unit_word=word
        )
        made = signed(made, vlm, plan, spending)
        counts = at.n_questions, at.n_at_limit
        return GrowingCertificate(made, at.clusters, at.values, ids, *counts, at.counted)

    at, grown = _Seen(), None
    if earlier is not None:
        counts = earlier.n_questions, earlier.n_at_limit
        at = _Seen(earlier.clusters, earlier.values, *counts, earlier.counted)
        grown = certified(at)
    for block in _blocks(new, look):
        if grown is not None and grown.certificate.holds:
            break
        at = at.after(paired_outcomes(vlm, block, plan, **sizes))
        grown = certified(at)
        if keep is not None:
            keep(grown)
    assert grown is not None  # there are new items or an earlier certificate
    return grown


@dataclass(frozen=True)
class _Seen:
    """What is known of the images so far."""

    clusters: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    n_questions: int = 0
    n_at_limit: int = 0
    counted: tuple[str, ...] = ()

    def after(self, outcomes: Outcomes) -> _Seen:
        """The same with more images."""
        means, _ = cluster_means(outcomes.disagree, outcomes.clusters)
        return _Seen(
            (*self.clusters, *dict.fromkeys(outcomes.clusters)),
            (*self.values, *means.tolist()),
            self.n_questions + len(outcomes.items),
            self.n_at_limit + int(sum(outcomes.at_limit or ())),
            tuple(sorted({*self.counted, *image_ids(outcomes.items)})),
        )

    def certificate(self, plan: SkipPlan, *, max_new_tokens: int, **options: Any) -> Certificate:
        """The certificate at this number of images."""
        try:
            made = certify_mean(
                self.values,
                self.clusters,
                quantity="disagreement",
                method="anytime",
                plan_hash=plan.hash(),
                **options,
            )
        except ValueError as error:
            raise BridgeError(str(error)) from None
        share = self.n_at_limit / self.n_questions
        return replace(made, max_new_tokens=max_new_tokens, share_at_limit=share)


def _check_look(look: Any) -> None:
    """Raise a `BridgeError` unless `look` is a number of images."""
    if isinstance(look, bool) or not isinstance(look, int) or look < 1:
        raise BridgeError(f"look must be a whole number of images, at least 1, got {shown(look)}")


def _blocks(items: Sequence[Item], look: int) -> Iterator[list[Item]]:
    """The items by image, in the order of `_shuffled`, so many images at a time."""
    by_image: dict[str, list[Item]] = {}
    for item in items:
        by_image.setdefault(item.cluster, []).append(item)
    images = [by_image[cluster] for cluster in sorted(by_image, key=_shuffled)]
    for start in range(0, len(images), look):
        yield [item for image in images[start : start + look] for item in image]


def _shuffled(cluster: str) -> str:
    """The place of an image in a random order that nothing but its identity decides."""
    return hashlib.sha256(f"anytime\0{cluster_id(cluster)}".encode()).hexdigest()


def _check_continues(
    earlier: GrowingCertificate, vlm: VLM, plan: SkipPlan, max_new_tokens: int
) -> None:
    """Raise a `BridgeError` if an earlier certificate is of another model, plan or length."""
    was = earlier.certificate
    for name, old, new in (
        ("model", was.model, vlm.name),
        ("fingerprint", was.fingerprint, vlm.fingerprint),
        ("plan", was.plan_hash, plan.hash()),
        ("longest answer", was.max_new_tokens, max_new_tokens),
    ):
        if old != new:
            raise BridgeError(
                f"the earlier certificate is of another {name} ({shown(old)}, now {shown(new)}); "
                "name another --out, or delete it"
            )


def _check_not_counted(earlier: GrowingCertificate, new: Sequence[Item]) -> None:
    """Raise a `BridgeError` if a new unit is about what was counted in another one.

    Where questions share images, more of them may join two units into one.
    """
    if shared := overlap(new, earlier.counted):
        raise BridgeError(
            f"{len(shared)} new {unit_word(new, len(shared))} (as {shown(shared[0])}) share an "
            "image with questions that the earlier certificate counted in another unit; leave out "
            "what shares their images, or begin anew with all of them"
        )
