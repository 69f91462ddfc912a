"""What `profile`, `sweep` and `controls` print for people: one line for each layer or plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from estimators import Profile
from theory.certificates.certificate import changed_things
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.controls import Controlled, kept_share
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.plan.modes import named

#: Measures of a profile that are printed -> their names.
_PRINTED = {"cosine_distance": "distance", "var": "VAR"}


def profile_lines(profile: Profile, random: Profile | None) -> Iterator[str]:
    """Cosine distance and VAR by layer and token group, beside those of random weights.

    Columns are separated by tabs; `distance image` is 1 - cos of image tokens, `VAR text` the
    attention of text to modality tokens.
    """
    columns = [
        (group, measure)
        for measure in _PRINTED
        for group in profile.groups
        if measure in profile.measures.get(group, {})
    ]
    names, values = ["layer"], []
    for group, measure in columns:
        for of, shown in ((profile, ""), (random, ", random weights")):
            if of is not None and measure in of.measures.get(group, {}):
                names.append(f"{_PRINTED[measure]} {group}{shown}")
                values.append(of.values(group, measure))
    yield "\t".join(names)
    for layer in range(profile.n_layers):
        yield "\t".join([str(layer), *(f"{of_layer[layer]:.3g}" for of_layer in values)])


def sweep_lines(compared: Iterable[Comparison], modality: str) -> Iterator[str]:
    """Share of first answer tokens that each plan changes, with interval, and its KL divergence."""
    yield "plan\tfirst tokens changed\tKL(full, skipped), nats"
    for one in compared:
        kl = "-" if one.kl_full_skipped is None else f"{one.kl_full_skipped.value:.3g}"
        yield "\t".join([one.plan.describe(modality), ranged(one.disagreement), kl])


def controls_lines(found: Controlled, modality: str) -> Iterator[str]:
    """A line for each comparison, and how likely a random plan is as good."""
    things = changed_things(found.plan.max_new_tokens)
    yield f"what\t{things} changed"
    yield f"plan: {found.plan.plan.describe(modality)}\t{ranged(found.plan.disagreement)}"
    if found.random:
        rates = sorted(one.disagreement.value for one in found.random)
        n, middle = len(rates), rates[len(rates) // 2]
        yield (
            f"{n} random plans of its size\tmedian {middle:.1%}, {rates[0]:.1%} to {rates[-1]:.1%}"
        )
    if found.deepest is not None:
        words = found.deepest.plan.describe(modality)
        yield f"the deepest: {words}\t{ranged(found.deepest.disagreement)}"
    if found.coarser is not None:
        words = f"full model, image with {kept_share(found.plan.plan):.3g} of its pixels"
        yield f"{words}\t{ranged(found.coarser.disagreement)}"
    if found.no_coarser:
        yield f"no coarser images: {found.no_coarser}"
    for one in found.knockouts:
        words = f"text blind to {modality} tokens in {named(one.layers)}"
        yield f"{words}\t{ranged(one.changed.disagreement)}"
    if found.random:
        least = 1 / (1 + len(found.random))
        few = "" if least <= 0.05 else f"; with so few p is never below {least:.2g}"
        yield (
            f"drawn as these are, the plan would do so well with p = {found.p_value:.3g} "
            f"({len(found.random)} draws, seed {found.seed}{few})"
        )
