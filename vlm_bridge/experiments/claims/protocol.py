"""What docs/protocol.md registers: its version, its tests, and which points a verdict needs."""

from __future__ import annotations

from dataclasses import dataclass

#: Commit and SHA-256 of docs/protocol.md, whose rules this package follows. A test compares both
#: with the repository; results of different versions are never joined.
COMMIT = "09cdcb19899e812adaeb81e5d57f79b1f5d5a5c1"
SHA256 = "7637386f9837071236211828af84ac2a23f0f54108592ccbe742ea70691648b7"

#: Level of all tests together, after Holm's correction, and of every interval.
ALPHA, LEVEL = 0.05, 0.95
#: Level of the tests of one direction, for the clauses or against them.
ONE_SIDED = ALPHA / 2
#: Fewest counted units with which ranks are tested, and neighbours that a bootstrap draws together.
FEWEST_UNITS, BLOCK = 16, 3
#: Our rule of the tests, and the rules that are reported and enter no test.
OURS = "skip-it-slopes"
REPORTED = ("skip-it", "skip-it-runs", "deepest-first", "delask")
#: Mode -> the published rule whose scores ours are compared with.
POPULAR = {"freeze": "shortv", "block": "shortgpt"}
#: Modes whose single units are measured, and those whose scores are tested against harm.
MODES = ("block", "freeze", "vision_attention", "vision_mlp", "early_exit", "late_entry")
ALIGNED = ("block", "freeze", "vision_mlp")
#: A model enters with this lead over the blind baseline, and if this share of its single blocks
#: changes a share of answers within `GRADED_HARM`.
LEAD, GRADED, GRADED_HARM = 0.15, 1 / 3, (0.02, 0.90)
#: A clause is supported over models if it is in so many and refuted in none; refuted if in so many.
ENOUGH_SUPPORT, ENOUGH_REFUTED = 4, 2

#: Points that a verdict needs beside its test, by name.
DEPTH, RANDOM_PLANS, TEST_IMAGES = "depth", "random plans", "test images"
RANDOM_WEIGHTS, SHUFFLED = "random weights", "shuffled images"
NULLS = (RANDOM_WEIGHTS, SHUFFLED)


@dataclass(frozen=True)
class Clause:
    """A test of section 5.

    Attributes:
        id: as in the protocol; of V2-align with the mode, since each mode is tested apart.
        claim: what the paper says.
        effect: what the forest plot shows.
        across: whether the claim is about all models, so that one contradiction refutes it.
    """

    id: str
    claim: str
    effect: str
    across: bool = False


_RANK = "rank correlation with harm, given depth"
_KEPT = "share of answers that stay"
CLAUSES = {
    clause.id: clause
    for clause in (
        Clause(
            "V1-coincide",
            "the layers called redundant are those that popular methods skip",
            "rank correlation of our scores with the popular method's, given depth",
        ),
        Clause("V1-faster", "skipping them is faster", "1 - latency ratio of the prefill"),
        Clause("V1-safe", "skipping them preserves the answers", _KEPT),
        Clause(
            "V1-others",
            "skipping others degrades the answers",
            "answers changed by our least safe plan, minus the mean of random plans",
        ),
        Clause("V2-measurable", "the conditions need no task performance", _RANK),
        Clause("V2-early", "early vision tokens are redundant across models", _KEPT, across=True),
        Clause("V2-late", "late vision tokens are redundant across models", _KEPT, across=True),
        *(
            Clause(f"V2-align/{mode}", f"the conditions align with degradation in {mode}", _RANK)
            for mode in ALIGNED
        ),
    )
}


def fatal_layers(n_layers: int) -> tuple[int, ...]:
    """Layers that no ranking counts and no random plan draws: 0, 1 and the last.

    >>> fatal_layers(8)
    (0, 1, 7)
    """
    return tuple(sorted({0, min(1, n_layers - 1), n_layers - 1}))


def third(n_layers: int, *, last: bool) -> tuple[int, ...]:
    """The first or the last third of the layers, without the fatal ones; perhaps empty.

    >>> third(8, last=False), third(8, last=True)
    ((2,), (5, 6))
    """
    size = round(n_layers / 3)
    layers = range(n_layers - size, n_layers) if last else range(size)
    return tuple(layer for layer in layers if layer not in fatal_layers(n_layers))


def tested_mode(freezes: bool) -> str:
    """The mode of our plan in the V1 tests: `freeze`, or `block` if no modality can be frozen."""
    return "freeze" if freezes else "block"
