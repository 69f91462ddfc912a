"""Claims about cascades, margins, peeking and drafts that look right and are false."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.theory.false_variants_information import false, without
from theory.statements import s16_cascade_risk as s16
from theory.statements import s17_argmax_margin as s17
from theory.statements import s18_anytime_bound as s18
from theory.statements import s19a_greedy_draft as s19a
from theory.statements import s19b_sampled_draft as s19b


def labels_and_drops(rng: np.random.Generator) -> s16.Cascade:
    """Losses in [-1, 1], as accuracy drops are."""
    case = s16.generate(rng)
    return replace(case, loss=rng.choice([-1.0, 0.0, 1.0], case.loss.size))


def full_model_errs(rng: np.random.Generator) -> s16.Cascade:
    """The fallback is wrong now and then."""
    case = s16.generate(rng)
    return replace(case, fallback=rng.random(case.loss.size))


def selective_falls(case: s16.Cascade) -> float:
    """The risk among accepted inputs falls with the threshold."""
    if not (case.sure >= case.high).any():
        return 0.0
    return case.restricted(case.low) - case.restricted(case.high)


def margin_above_the_change(rng: np.random.Generator) -> s17.Logits:
    """d up to m in place of m/2, in the worst direction."""
    case = s17.generate(rng)
    largest = float(rng.uniform(0.5, 1.0)) * case.margin
    signs = np.where(np.arange(case.before.size) == case.best, -1.0, 1.0)
    return s17.Logits(case.before, case.before + largest * signs, largest)


def top_two(rng: np.random.Generator) -> s17.Logits:
    """The change is measured at the two largest logits alone."""
    case = s17.generate(rng)
    after = case.before.copy()
    after[np.argsort(case.before)[0]] += float(rng.uniform(0.0, 3.0)) * np.ptp(case.before)
    return s17.Logits(case.before, after, 0.0) if case.before.size > 2 else case


def peeking(case: s18.Game) -> float:
    """Half of delta is enough for all looks."""
    return case.delta / 2 - case.refuted()


def in_debt(rng: np.random.Generator) -> s18.Game:
    case = s18.generate(rng)
    return replace(case, bets=case.bets * 20.0)


def chosen_images(rng: np.random.Generator) -> s18.Game:
    return replace(s18.generate(rng), foresight=True)


def below_the_limit(rng: np.random.Generator) -> s18.Game:
    case = s18.generate(rng)
    return replace(case, rate=case.rate * 0.3)


def another_verifier(rng: np.random.Generator) -> s19a.Drafting:
    """Now and then a block's rounding prefers another token."""
    case = s19a.generate(rng)
    other = rng.permutation(case.verifier).tolist()
    return replace(case, verifier=tuple(int(token) for token in other))


def kept_drafts(rng: np.random.Generator) -> s19a.Drafting:
    return replace(s19a.generate(rng), truncates=False)


def redrawn_from_full(rng: np.random.Generator) -> s19b.Draft:
    case = s19b.generate(rng)
    return replace(case, again=case.full)


def greedy_draft(rng: np.random.Generator) -> s19b.Draft:
    """The draft is drawn greedily and accepted as if sampled."""
    case = s19b.generate(rng)
    return replace(case, drawn=np.eye(case.draft.size)[np.argmax(case.draft)])


FALSE_VARIANTS = {
    "S16: any loss": without(
        "S16", "losses are nonnegative", generate=labels_and_drops, search=None
    ),
    "S16: a fallback that errs": without(
        "S16", "a fallback without loss", generate=full_model_errs, search=None
    ),
    "S16: the accepted risk falls too": false("S16", slack=selective_falls),
    "S17: margin above the change": without(
        "S17", "margin above twice the change", generate=margin_above_the_change, search=None
    ),
    "S17: the two largest logits": without(
        "S17", "every logit is measured", generate=top_two, search=None
    ),
    "S17: half of the loss": false("S17", slack=lambda c: s17.slack(c) - c.margin + c.largest),
    "S18: half of delta": false("S18", slack=peeking),
    "S18: debts": without("S18", "never more than all", generate=in_debt, search=None),
    "S18: images left out": without(
        "S18", "bets on what is to come", generate=chosen_images, search=None
    ),
    "S18: a rate below the limit": without(
        "S18", "the rate is at the limit or above", generate=below_the_limit, search=None
    ),
    "S19a: any rounding": without(
        "S19a", "a block is read as its tokens are", generate=another_verifier
    ),
    "S19a: refused drafts go on": without(
        "S19a", "what follows a refused token is thrown away", generate=kept_drafts
    ),
    "S19b: redrawn from the full model": without(
        "S19b", "refused tokens come from the rest", generate=redrawn_from_full, search=None
    ),
    "S19b: a greedy draft": without(
        "S19b", "the draft is drawn from q", generate=greedy_draft, search=None
    ),
}
