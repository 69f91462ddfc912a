"""The published protocol on one large model: profile, ShortV's order, VTW's depth, sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from estimators import Profile
from estimators.rank_correlation import spearman
from estimators.record import Record
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item, image_hashes
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison, compare
from vlm_bridge.evaluate.sweep import sweep, sweep_plans
from vlm_bridge.experiments.claims.coincidence import Coincidence, coincidence
from vlm_bridge.experiments.reproduce.published import Published
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.published.vtw import VTW, first_below
from vlm_bridge.runtime.files import read_json, write_json

#: Modes swept on images that chose nothing.
_SWEPT = ("freeze", "early_exit", "late_entry")


@dataclass(frozen=True)
class Reproduction(Record):
    """What came out, beside what was published.

    Attributes:
        name: of the published model.
        model: what was run.
        n_profiling: images that gave the two orders.
        n_images: images that tested them.
        profile: distances, tail probabilities and attention on vision, by layer.
        shortv_kl: (L,) `mean KL(p_frozen || p_full)` of every layer, nats.
        vtw_kl: (L - 1,) `mean KL(p_exit || p_full)` of every exit from 1 on, nats.
        vtw_depth: VTW's choice at the published threshold (.003 where none is published).
        overlap: our frozen set against the published one; None where none is published.
        order_agreement: Spearman's correlation of the two orders over the published layers.
        sweep: every frozen layer, exit and entry on the tested images.
        published_plan: the published layers frozen, on the tested images; None without them.
        own_plan: as many layers of our own order, on the same images.
        flops_ratio: of `own_plan`'s prefill, skipped/full.
        latency_ratio: of the same, median of pairs.
    """

    name: str
    model: str
    n_profiling: int
    n_images: int
    profile: Profile
    shortv_kl: tuple[float, ...]
    vtw_kl: tuple[float, ...]
    vtw_depth: int | None
    overlap: Coincidence | None
    order_agreement: float | None
    sweep: tuple[Comparison, ...]
    published_plan: Comparison | None
    own_plan: Comparison
    flops_ratio: float
    latency_ratio: float

    @property
    def shortv_order(self) -> list[int]:
        """Layers in the order in which ShortV would freeze them here."""
        return sorted(range(len(self.shortv_kl)), key=lambda layer: self.shortv_kl[layer])


def forward_cost_of(n_layers: int, n_profiling: int, n_images: int, *, step: int = 1) -> int:
    """Forward passes over one image that `reproduce` makes, skipped ones counted as full.

    Example:
        >>> forward_cost_of(32, 40, 200, step=2)
        13800
    """
    orders = 1 + 1 + n_layers + n_layers - 1  # profile, full model, freezes, exits
    swept = 1 + len(sweep_plans(n_layers, step=step, modes=_SWEPT))
    return n_profiling * orders + n_images * (swept + 4)  # two plans, full model beside each


def reproduce(
    vlm: VLM,
    published: Published,
    profiling: Sequence[Item],
    items: Sequence[Item],
    folder: Path,
    *,
    batch_size: int = 16,
    step: int = 1,
    share: float = 0.6,
    pairs: int = 15,
) -> Reproduction:
    """Run the protocol, or go on with it: everything that is finished lies in `folder`.

    Args:
        vlm: the model.
        published: what others reported of it.
        profiling: questions that give the orders; 40 images in ShortV, 20 in VTW. No label is read.
        items: questions about other images, with answers where accuracy is wanted.
        folder: of the checkpoints.
        batch_size: questions in a batch.
        step: sweep every so many layers and depths.
        share: of layers frozen where no order is published (ShortV: 60 %).
        pairs: timed pairs of the full and the frozen model.

    Raises:
        BridgeError: another depth than the published model's, an image in both sets, or a
            checkpoint of another run in `folder`.
    """
    n = vlm.layout.n_layers
    if n != published.n_layers:
        raise BridgeError(
            f"{published.name} has {published.n_layers} layers, {vlm.name} has {n}: these are not "
            "its weights"
        )
    both = set(image_hashes(profiling)) & set(image_hashes(items))
    if both:
        raise BridgeError(f"{len(both)} images both give the orders and test them")
    folder.mkdir(parents=True, exist_ok=True)
    found = _profile(vlm, profiling, batch_size, folder)
    freezes, exits = units("freeze", n), units("early_exit", n)
    orders = sweep(
        vlm,
        profiling,
        [*freezes, *exits],
        checkpoint=folder / "orders.jsonl",
        batch_size=batch_size,
    )
    shortv, vtw = _divergence(orders[:n]), _divergence(orders[n:])
    order = published.shortv_order
    count = len(order) or max(1, min(n - 1, round(share * n)))
    own = sorted(range(n), key=lambda layer: shortv[layer])[:count]
    own_plan = SkipPlan("freeze", n, layers=tuple(sorted(own)))
    swept = sweep_plans(n, step=step, modes=_SWEPT)
    cost = measure_cost(vlm, items, own_plan, batch_size=batch_size, pairs=pairs)

    def tested(plan: SkipPlan, name: str) -> Comparison:
        return compare(vlm, items, plan, batch_size=batch_size, checkpoint=folder / f"{name}.jsonl")

    return Reproduction(
        name=published.name,
        model=vlm.name,
        n_profiling=len({item.cluster for item in profiling}),
        n_images=len({item.cluster for item in items}),
        profile=found,
        shortv_kl=tuple(shortv),
        vtw_kl=tuple(vtw),
        vtw_depth=first_below(vtw, VTW.eta if published.vtw_eta is None else published.vtw_eta),
        overlap=coincidence(shortv, _ranks(order, n), count, names=("here", "published"))
        if order
        else None,
        order_agreement=spearman([shortv[i] for i in order], range(len(order))) if order else None,
        sweep=tuple(
            sweep(vlm, items, swept, checkpoint=folder / "sweep.jsonl", batch_size=batch_size)
        ),
        published_plan=tested(SkipPlan("freeze", n, layers=tuple(sorted(order))), "published")
        if order
        else None,
        own_plan=tested(own_plan, "own"),
        flops_ratio=cost.prefill.flops_ratio,
        latency_ratio=cost.prefill.latency_ratio.value,
    )


def _profile(vlm: VLM, items: Sequence[Item], batch_size: int, folder: Path) -> Profile:
    path = folder / "profile.json"
    if path.is_file():
        return Profile.from_json(read_json(path, "profile"))
    found = profile(vlm, items, batch_size=batch_size, checkpoint=folder / "profile.safetensors")
    write_json(path, found.to_json())
    return found


def _divergence(found: Sequence[Comparison]) -> list[float]:
    values = [one.kl_skipped_full for one in found]
    return [value.value for value in values if value is not None]


def _ranks(order: Sequence[int], n: int) -> list[float]:
    """Rank of every layer in a published order; those it leaves out come after all others."""
    return [float(order.index(layer)) if layer in order else float(n) for layer in range(n)]
