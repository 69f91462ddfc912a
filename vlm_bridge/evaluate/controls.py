"""A plan beside its controls: random plans, the deepest layers, a coarser image, knockouts."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from estimators.record import Record
from vlm_bridge.data import ImageRef, Item, content_of, open_image, with_images
from vlm_bridge.data.units import check_one_cluster_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.compare import Comparison, check_images
from vlm_bridge.evaluate.full_answers import DECISION, FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.controls import DRAWS, deepest_plan, random_plans
from vlm_bridge.plan.modes import LAYERWISE, ranges
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.skip.knockout import knocking_out
from vlm_bridge.skip.support import check_support, supported_layers

#: Means of the same changes, summed in another order, differ by less.
_ROUNDING = 1e-9
#: Bands of neighbouring layers that are knocked out, one after another.
BANDS = 6


@dataclass(frozen=True)
class Knockout(Record):
    """What changes if text does not attend to modality tokens in some layers.

    Attributes:
        layers: the layers, ascending.
        changed: full model against the model with this attention knocked out.
    """

    layers: tuple[int, ...]
    changed: Comparison


@dataclass(frozen=True)
class Controlled(Record):
    """A plan and its controls, all compared with the full model on the same questions.

    Attributes:
        plan: the plan.
        random: random plans of its mode and size; empty if there is one plan of each size.
        deepest: the plan of its size that skips the last layers; None if it names no layers.
        coarser: the full model, shown the image with as small a share of its pixels as pruning
            keeps of its tokens in the end; None in other modes.
        knockouts: text's attention to modality tokens knocked out band by band, in layers of
            self-attention; empty if the model has no such tokens or no mask for it.
        seed: of the random plans.
        no_coarser: why there is no coarser image in a plan that prunes; empty otherwise.
    """

    plan: Comparison
    random: tuple[Comparison, ...]
    deepest: Comparison | None
    coarser: Comparison | None
    knockouts: tuple[Knockout, ...]
    seed: int
    no_coarser: str = ""

    @property
    def p_value(self) -> float:
        """As `p_value_against`, of the plan among its random plans."""
        random = [one.disagreement.value for one in self.random]
        return p_value_against(random, self.plan.disagreement.value)


def p_value_against(random: Sequence[float], disagreement: float) -> float:
    """p-value of "the plan is one drawn as the random plans are": `(1 + b) / (1 + n)`.

    b of the n random plans change no more answers than the plan; rates that differ by rounding
    alone are equal. Valid if the questions did not choose the plan. NaN without random plans.

    Source:
        Phipson and Smyth 2010, permutation p-values should never be zero, SAGMB 9, eq. 2.

    Example:
        >>> p_value_against([0.1, 0.0, 0.3], 0.05)
        0.5
    """
    if not random:
        return math.nan
    return (1 + sum(one <= disagreement + _ROUNDING for one in random)) / (1 + len(random))


def compare_with_controls(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan | str,
    *,
    folder: Path,
    draws: int = DRAWS,
    bands: int = BANDS,
    seed: int = 0,
    held_out: tuple[int, ...] = (),
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Controlled:
    """Compare a plan, and controls that no measurement chose, with the full model's answers.

    A plan that changes as few answers as a random one of its size says nothing about which layers
    are redundant. A band of layers where text can do without the image is one whose knockout
    changes nothing. Finished batches and coarser images are kept in `folder`; a second call
    resumes.

    Args:
        vlm: not inside `skipping`.
        items: the questions.
        plan: of one mode and stack.
        folder: for checkpoints and images.
        draws: random plans.
        bands: of neighbouring layers that are knocked out; 0: none.
        seed: of the random plans.
        held_out: layers that no random plan skips unless `plan` does.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.

    Raises:
        BridgeError: a composed or empty plan, one that the model does not support, fewer than two
            units, a checkpoint of another run.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = check_items(items)
    check_images(items)
    sizes: dict[str, int] = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    check_support(vlm, plan)
    drawn, deepest = control_plans(vlm, plan, draws=draws, seed=seed, held_out=held_out)
    full = FullAnswers.ask(vlm, items, checkpoint=folder / "full.jsonl", **sizes)

    plans = [plan, *drawn, *([] if deepest is None else [deepest])]
    outcomes = full.of_plans(vlm, plans, batch_size=batch_size, folder=folder)
    compared = [Comparison.of(p, o, DECISION, vlm) for p, o in zip(plans, outcomes, strict=True)]
    coarser, no_coarser = None, ""
    if plan.kept_only_layers:
        coarser, no_coarser = coarser_images(vlm, full, kept_share(plan), folder, batch_size)
    return Controlled(
        plan=compared[0],
        random=tuple(compared[1 : len(drawn) + 1]),
        deepest=None if deepest is None else compared[-1],
        coarser=coarser,
        no_coarser=no_coarser,
        knockouts=tuple(knockouts(vlm, full, bands, folder, batch_size)),
        seed=seed,
    )


def control_plans(
    vlm: VLM, plan: SkipPlan, *, draws: int, seed: int, held_out: tuple[int, ...] = ()
) -> tuple[list[SkipPlan], SkipPlan | None]:
    """Random plans of the size of `plan`, and the deepest one, of layers that have its mode.

    None of either if the mode has one plan of each size, or no stage of pruning runs; no deepest
    plan of a mode without layers. `held_out` is of the random plans. A BridgeError as
    `random_plans` for a composed plan.
    """
    if plan.mode in LAYERWISE:
        usable = supported_layers(vlm, plan.mode, plan.stack)
        lacking = tuple(layer for layer in range(plan.n_layers) if layer not in usable)
        out = tuple(sorted({*held_out, *lacking}))
        random = random_plans(plan, draws=draws, seed=seed, held_out=out)
        return random, deepest_plan(plan, held_out=lacking)
    if plan.kept_only_layers or plan.parts:
        return random_plans(plan, draws=draws, seed=seed, held_out=held_out), None
    return [], None


def with_coarser_images(items: Sequence[Item], share: float, folder: Path) -> list[Item]:
    """The same questions about images of `share` of the pixels, written to `folder` as PNG.

    A file is named by the content of the image and the share. Width and height are multiplied by
    `sqrt(share)`, at least one pixel stays. A processor of a fixed size enlarges the image again,
    so that its tokens hold less; one of variable size makes fewer tokens of it.

    Raises:
        BridgeError: a share outside (0, 1], or an item without an image.

    Source:
        The control of Li et al. 2025 (VTC-Bench), arXiv:2510.07143.
    """
    if not 0 < share <= 1:
        raise BridgeError(f"a share of pixels lies in (0, 1], got {share}")
    coarser = []
    for item in items:
        if not item.images:
            raise BridgeError(f"{item.name} has no image to make coarser")
        coarser.append(with_images(item, [_coarser(image, share, folder) for image in item.images]))
    return coarser


def _coarser(source: ImageRef, share: float, folder: Path) -> Path:
    """The file of a smaller image, which is written if it is not there."""
    path = folder / f"{content_of(source)[:32]}-{share!r}.png"
    if not path.is_file():
        image = open_image(source)
        size = [max(1, round(side * math.sqrt(share))) for side in image.size]
        made = io.BytesIO()
        image.resize((size[0], size[1]), Image.Resampling.LANCZOS).save(made, format="PNG")
        write_bytes(path, made.getvalue())
    return path


def kept_share(plan: SkipPlan) -> float:
    """The share of modality tokens that a plan that prunes keeps in the last layer.

    >>> kept_share(SkipPlan("progressive_pruning", 4, stages=((1, 0.5), (2, 0.25), (4, 0.01))))
    0.25
    """
    return [share for depth, share in plan.pruning if depth < plan.n_layers][-1]


def coarser_images(
    vlm: VLM, full: FullAnswers, share: float, folder: Path, batch_size: int
) -> tuple[Comparison | None, str]:
    """The full model on images of `share` of the pixels, against its answers on whole ones.

    None, and why, if images of two clusters become equal, or an item has none. Coarser images and
    finished batches are kept in `folder`.
    """
    try:
        items = with_coarser_images(full.items, share, folder / "coarser")
        check_one_cluster_per_image(items)
    except BridgeError as error:
        return None, str(error)
    answers = FullAnswers.ask(
        vlm,
        items,
        batch_size=batch_size,
        max_new_tokens=full.max_new_tokens,
        checkpoint=folder / f"coarser-{share!r}.jsonl",
    )
    outcomes = Outcomes.of_words(
        full.items,
        full.texts,
        answers.texts,
        at_limit=full.at_limit,
        max_new_tokens=full.max_new_tokens,
    )
    empty = SkipPlan("block", vlm.layout.n_layers)
    return Comparison.of(empty, outcomes, DECISION, vlm), ""


def knockouts(
    vlm: VLM, full: FullAnswers, bands: int, folder: Path, batch_size: int
) -> Iterator[Knockout]:
    """Knock out bands of layers, of as equal numbers as possible, from the first to the last.

    Layers that do not attend, or take no mask, are left out of their band; a band of such layers
    alone, and a model without modality tokens, has none. Finished batches are kept in `folder`.
    """
    n, usable = vlm.layout.n_layers, supported_layers(vlm, "freeze")
    count = min(bands, n) if vlm.layout.modality else 0
    for number in range(count):
        band = range(number * n // count, (number + 1) * n // count)
        if not (layers := tuple(layer for layer in band if layer in usable)):
            continue
        name = f"knockout {layers}"
        outcomes = full.outcomes_inside(
            vlm,
            partial(knocking_out, vlm, layers),
            name,
            f"text blind in layers {ranges(layers)}",
            batch_size=batch_size,
            checkpoint=folder / f"knockout-{layers[0]}-{layers[-1]}-{len(layers)}.jsonl",
        )
        empty = SkipPlan("block", n)
        yield Knockout(layers, Comparison.of(empty, outcomes, DECISION, vlm))
