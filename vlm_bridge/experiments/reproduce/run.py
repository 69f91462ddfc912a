"""The published protocol on one large model: profile, ShortV's order, VTW's depth, sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from estimators import Profile
from estimators.rank_correlation import spearman
from estimators.record import Record
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item, check_disjoint
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.compare import Comparison, compare
from vlm_bridge.evaluate.sweep import sweep, sweep_plans
from vlm_bridge.experiments.reproduce.published import Published
from vlm_bridge.experiments.scoring.coincidence import Coincidence, coincidence
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.evidence import check_profile
from vlm_bridge.rules.published.vtw import VTW, first_below
from vlm_bridge.runtime.files import read_or_make

_SWEPT = ("freeze", "early_exit", "late_entry")  # on the test images


@dataclass(frozen=True)
class Reproduction(Record):
    """Results on a model with published results.

    Attributes:
        name, model: name of the published model, and of the model that was run.
        n_profiling, n_images: number of images that give the two orders, and that test them.
        profile: distances, tail probabilities and attention on vision, by layer.
        shortv_kl: (L,) `mean KL(p_frozen || p_full)` of the first answer token, nats.
        vtw_kl: (L - 1,) the same of every exit from 1 on.
        vtw_depth: VTW's choice at the published threshold (.003 if none is published).
        overlap, order_agreement: our frozen set against the published set, and Spearman's
            correlation of the two orders over the published layers; None without an order.
        sweep: every frozen layer, exit and entry on the test images.
        published_plan, own_plan: the published layers frozen, and as many of our own order, on the
            test images.
        flops_ratio, latency_ratio: of the prefill of `own_plan`, skipped/full; median of pairs.
        fingerprint: of the model.
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
    fingerprint: str = ""

    @property
    def shortv_order(self) -> list[int]:
        """Layers in the order in which ShortV would freeze them here."""
        return sorted(range(len(self.shortv_kl)), key=lambda layer: self.shortv_kl[layer])


def forward_cost_of(n_layers: int, n_profiling: int, n_images: int, *, step: int = 1) -> int:
    """Forward passes over one image that `reproduce` makes, skipped passes counted as full.

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
    max_new_tokens: int = MAX_NEW_TOKENS,
    step: int = 1,
    share: float = 0.6,
    pairs: int = 15,
) -> Reproduction:
    """Run the protocol, or resume it from the checkpoints in `folder`.

    The profiling questions give the orders, without their labels (40 images in ShortV, 20 in VTW);
    `items`, about other images, test them. Every `step`-th layer and depth is swept. Without a
    published order, a `share` of the layers is frozen (ShortV: 60 %).
    """
    n = vlm.layout.n_layers
    if n != published.n_layers:
        depths = f"{published.name} has {published.n_layers} layers, {vlm.name} has {n}"
        raise BridgeError(f"{depths}: these are not its weights")
    check_disjoint(items, profiling, "both give the orders and test them")
    folder.mkdir(parents=True, exist_ok=True)

    def swept(name: str, on: Sequence[Item], plans: Sequence[SkipPlan]) -> list[Comparison]:
        return sweep(vlm, on, plans, checkpoint=folder / f"{name}.jsonl", batch_size=batch_size)

    def tested(name: str, layers: Sequence[int]) -> Comparison:
        plan, checkpoint = _frozen(n, layers), folder / f"{name}.jsonl"
        sizes = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        return compare(vlm, items, plan, checkpoint=checkpoint, **sizes)

    def profiled() -> Profile:
        states = folder / "profile.safetensors"
        return profile(vlm, profiling, batch_size=batch_size, checkpoint=states)

    geometry = read_or_make(folder / "profile.json", Profile, profiled)
    check_profile(vlm, geometry)
    orders = swept("orders", profiling, [*units("freeze", n), *units("early_exit", n)])
    divergences = [kl.value for each in orders if (kl := each.kl_skipped_full) is not None]
    shortv, vtw = divergences[:n], divergences[n:]
    order = published.shortv_order
    size = len(order) or max(1, min(n - 1, round(share * n)))
    own = sorted(range(n), key=lambda layer: shortv[layer])[:size]
    cost = measure_cost(vlm, items, _frozen(n, own), batch_size=batch_size, pairs=pairs)
    eta = VTW.eta if published.vtw_eta is None else published.vtw_eta
    overlap = agreement = published_plan = None
    if order:
        overlap = coincidence(shortv, _ranks(order, n), size, names=("here", "published"))
        agreement = spearman([shortv[layer] for layer in order], range(len(order)))
        published_plan = tested("published", order)
    return Reproduction(
        name=published.name,
        model=vlm.name,
        n_profiling=len({item.cluster for item in profiling}),
        n_images=len({item.cluster for item in items}),
        profile=geometry,
        shortv_kl=tuple(shortv),
        vtw_kl=tuple(vtw),
        vtw_depth=first_below(vtw, eta),
        overlap=overlap,
        order_agreement=agreement,
        sweep=tuple(swept("sweep", items, sweep_plans(n, step=step, modes=_SWEPT))),
        published_plan=published_plan,
        own_plan=tested("own", own),
        flops_ratio=cost.prefill.flops_ratio,
        latency_ratio=cost.prefill.latency_ratio.value,
        fingerprint=vlm.fingerprint,
    )


def _frozen(n_layers: int, layers: Sequence[int]) -> SkipPlan:
    return SkipPlan("freeze", n_layers, layers=tuple(sorted(layers)))


def _ranks(order: Sequence[int], n: int) -> list[float]:
    """Rank of every layer in a published order; layers that it leaves out come last."""
    return [float(order.index(layer)) if layer in order else float(n) for layer in range(n)]
