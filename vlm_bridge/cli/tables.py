"""What `skipit profile` and `skipit sweep` print for people: one line for each layer or plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from estimators import Profile
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.figures.numbers import ranged

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
