"""Builds a toy VLM with planted layers from a table of answers and a schedule of layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._validate import check_array, check_texts, shown
from theory.systems.toy_model import ToyVLM
from theory.systems.toy_weights import KINDS, ToyWeights

SCHEDULE = (
    "identity",
    "encode",
    "kernel",
    "scale_vision",
    "scale_text",
    "copy",
    "identity",
    "kernel",
    "answer",
    "identity",
    "kernel",
)


def toy_vlm(table: ArrayLike | None = None, *, schedule: Sequence[str] = SCHEDULE) -> ToyVLM:
    """Build a toy VLM that answers question j about an image of class c with table[j, c].

    Args:
        table: integers of shape (questions, classes), 1 to 16 questions and 2 to 16 classes. The
            default is (c + j) mod 4 for 2 questions and 4 classes: neither the image nor the
            question alone carries information about the answer.
        schedule: kinds of the layers. "encode", "copy" and "answer" occur exactly once and in
            this order; "scale_text" occurs exactly once, before "copy"; "scale_vision" occurs
            only after "encode", with no "kernel" between it and "copy" (the rotation would not
            preserve the norm if the scaling were skipped).

    Returns:
        The weights and the ground truth.

    Raises:
        ValueError: the table does not hold whole numbers >= 0 or has a wrong shape, or the
            schedule violates a rule above.

    Source:
        Constructed in this project. It decides two questions that arXiv:2509.25584 leaves open:
        whether small distances are necessary and whether a small cosine distance is sufficient.

    Example:
        >>> toy = toy_vlm()
        >>> toy.truth.safe_exits, toy.truth.safe_entries
        ((6, 7, 8, 9, 10, 11), (0, 1))
        >>> [toy.schedule[layer] for layer in toy.truth.safe_blocks][:3]
        ['identity', 'kernel', 'scale_vision']
    """
    return ToyWeights(_as_table(table), _as_schedule(schedule)).build()


def _as_table(table: ArrayLike | None) -> NDArray[np.int64]:
    """Validated integer table; the default for None."""
    if table is None:
        return (np.arange(4)[None, :] + np.arange(2)[:, None]) % 4
    check_array(table, "table")
    answers = np.asarray(table)
    if (
        answers.ndim != 2
        or answers.dtype.kind not in "iu"
        or answers.size == 0
        or answers.min() < 0
    ):
        raise ValueError(
            f"table must be whole numbers >= 0 of shape (questions, classes), got {table}"
        )
    if not 2 <= answers.shape[1] <= 16 or answers.shape[0] > 16:
        raise ValueError(f"2 to 16 classes and 1 to 16 questions fit, got shape {answers.shape}")
    return answers.astype(np.int64)


def _as_schedule(schedule: Sequence[str]) -> tuple[str, ...]:
    """Validated kinds of layers."""
    if isinstance(schedule, str):
        raise TypeError(f"schedule must be several kinds of layers, got {shown(schedule)}")
    kinds = tuple(check_texts(schedule, "schedule", '"identity"'))
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds {', '.join(unknown)}; choose from {', '.join(KINDS)}")
    for kind in ("encode", "copy", "answer"):
        if kinds.count(kind) != 1:
            raise ValueError(f"the schedule needs exactly one '{kind}', got {kinds.count(kind)}")
    encode, copy, answer = (kinds.index(kind) for kind in ("encode", "copy", "answer"))
    if not encode < copy < answer:
        raise ValueError("the schedule needs encode before copy before answer")
    if kinds.count("scale_text") != 1 or kinds.index("scale_text") > copy:
        raise ValueError("the schedule needs exactly one 'scale_text', before copy")
    for layer, kind in enumerate(kinds):
        if kind == "scale_vision" and layer < encode:
            raise ValueError("'scale_vision' must come after encode")
        if kind == "scale_vision" and layer < copy and "kernel" in kinds[layer:copy]:
            raise ValueError("no 'kernel' may stand between 'scale_vision' and copy")
    return kinds
