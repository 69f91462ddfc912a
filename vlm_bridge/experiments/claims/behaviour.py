"""Calibration, confidence and false "yes" of the full and the skipped model, and of DeLask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.data import Item, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer_batch, is_correct, normalise
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.methods.delask import DeLaskMethod
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

Floats = NDArray[np.float64]
#: Makes the block in which a model answers.
Inside = Callable[[], AbstractContextManager[Any]]
#: Bins of equal width in which confidence and accuracy are compared.
BINS = 10
_SAMPLES = 999


@dataclass(frozen=True)
class Manner(Record):
    """How one model answers.

    Attributes:
        calibration: expected calibration error; None without labels.
        confidence: mean probability of the first answer token.
        false_yes: share of "yes" to questions whose answer is no; None without such questions.
    """

    calibration: Estimate | None
    confidence: Estimate
    false_yes: Estimate | None


@dataclass(frozen=True)
class Behaviour(Record):
    """The full model, the skipped one and DeLask on the same test questions.

    Attributes:
        plan: what the skipped model skips.
        full, skipped: how they answer.
        delask: how the full model answers under `DeLaskMethod`, which is made against false "yes"
            and computes every layer; None in records of before it was measured.
    """

    plan: SkipPlan
    full: Manner
    skipped: Manner
    delask: Manner | None = None


@dataclass(frozen=True)
class _Said:
    items: tuple[Item, ...]
    texts: tuple[str, ...]
    confidence: Floats


def measure_behaviour(
    vlm: VLM,
    plan: SkipPlan,
    items: Sequence[Item],
    every: Sequence[Item],
    folder: Path,
    settings: ClaimsSettings,
) -> Behaviour:
    """Calibration and confidence on `items`, false "yes" on the yes-no questions of `every`.

    Of these one question for each image counts, chosen by its hash. The confidence in an answer is
    the probability of its first token.
    """
    asking = [item for item in every if normalise(item.answer or "") in ("yes", "no")]
    asking = [i for i in limit_per_image(asking, 1) if normalise(i.answer or "") == "no"]
    method = DeLaskMethod()
    models: dict[str, tuple[str, Inside]] = {
        "full": ("full", vlm.whole),
        "skipped": (plan.hash(), lambda: skipping(vlm, plan)),
        "delask": (f"{method.name} {method.settings}", lambda: method.applying(vlm, None)),
    }
    manners = {}
    for name, model in models.items():
        said = _said(vlm, model, items, folder / f"{name}.jsonl", settings)
        yes = None
        if len(asking) > 1:
            no = _said(vlm, model, asking, folder / f"{name}-no.jsonl", settings)
            yes = false_yes(no.texts, no.items)
        manners[name] = _manner(said, yes, settings.seed)
    return Behaviour(plan, **manners)


def false_yes(texts: Sequence[str], items: Sequence[Item]) -> Estimate:
    """Share of "yes" among answers to questions whose answer is no, by image.

    Example:
        >>> asked = [Item(None, f"is it {name}?", "no") for name in ("red", "blue")]
        >>> false_yes(["Yes.", "no"], asked).value
        0.5
    """
    if wrong := [item for item in items if normalise(item.answer or "") != "no"]:
        raise BridgeError(f"a false yes is to a question whose answer is no: {wrong[0].name}")
    values = [float(normalise(text) == "yes") for text in texts]
    return clustered_mean(values, [item.cluster for item in items], bounds=(0, 1))


def calibration_error(confidence: Floats, right: Floats, bins: int = BINS) -> float:
    """Expected calibration error: `sum over bins of n_b / n |accuracy_b - confidence_b|`.

    `confidence` and `right` are (n,), in [0, 1] and 0 or 1; bins are of equal width.

    Source:
        Guo, Pleiss, Sun and Weinberger 2017, On calibration of modern neural networks, eq. 3.

    Example:
        >>> calibration_error(np.array([0.75, 0.75]), np.array([1.0, 0.0]))
        0.25
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def _manner(said: _Said, yes: Estimate | None, seed: int) -> Manner:
    clusters = [item.cluster for item in said.items]
    confidence = clustered_mean(said.confidence, clusters, bounds=(0, 1))
    judged = [is_correct(text, item) for text, item in zip(said.texts, said.items, strict=True)]
    known = [place for place, right in enumerate(judged) if right is not None]
    if not known:
        return Manner(None, confidence, yes)
    right = np.array([float(bool(judged[place])) for place in known])
    sure = said.confidence[known]
    rng, n = np.random.default_rng(seed), len(known)
    rows = rng.integers(n, size=(_SAMPLES, n))
    drawn = [calibration_error(sure[row], right[row]) for row in rows]
    value = calibration_error(sure, right)
    low, high = np.percentile(drawn, [2.5, 97.5])
    error = Estimate(
        value=value,
        interval=(min(float(low), value), max(float(high), value)),
        n=n,
        method=f"expected calibration error in {BINS} bins, bootstrap over images",
    )
    return Manner(error, confidence, yes)


def _said(
    vlm: VLM,
    model: tuple[str, Inside],
    items: Sequence[Item],
    checkpoint: Path,
    settings: ClaimsSettings,
) -> _Said:
    """Answers and confidence of a model, given by name and block; finished batches are kept."""
    name, inside = model

    def work(batch: Batch) -> dict[str, Any]:
        with inside():
            answers = answer_batch(vlm, batch, max_new_tokens=settings.max_new_tokens)
        sure = answers.log_probs.max(dim=-1).values.exp().clamp(0.0, 1.0)
        return {"texts": answers.texts, "confidence": sure.tolist()}

    def is_result(result: Any, n: int) -> bool:
        kinds = {"texts": str, "confidence": float}
        return (
            isinstance(result, dict)
            and set(result) == set(kinds)
            and all(is_list_of(result[name], kind, n) for name, kind in kinds.items())
        )

    sizes = {"batch_size": settings.batch_size, "max_new_tokens": settings.max_new_tokens}
    found = run_batches(
        vlm,
        list(items),
        work,
        is_result,
        batch_size=settings.batch_size,
        title=f"confidence, {checkpoint.stem}",
        checkpoint=checkpoint,
        key=run_key("confident answers", vlm, items, plan=name, **sizes),
    )
    return _Said(
        tuple(item for chosen, _ in found for item in chosen),
        tuple(text for _, result in found for text in result["texts"]),
        np.array([sure for _, result in found for sure in result["confidence"]]),
    )
