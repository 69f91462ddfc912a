"""Published results on the models that `skipit reproduce` runs."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_bridge.errors import BridgeError

_SHORTV = "Yuan et al. 2025, arXiv:2504.00502, table 'Replaced Layers' of its code release"
_VTW = "Lin et al. 2024, arXiv:2405.05803, and the defaults of its code release"


@dataclass(frozen=True)
class Published:
    """A large model and the results reported for it. Layers are 0-based.

    Attributes:
        hub_id: repository of the weights on the hub.
        parameters: number of parameters of the whole model.
        tokens: tokens of a typical prompt, vision included.
        shortv_order: layers in the order in which ShortV freezes them; empty if not reported.
        vtw_depth: first layer without vision tokens in VTW; None if not reported.
        vtw_eta: threshold of VTW for the mean KL divergence; None if not reported.
    """

    name: str
    hub_id: str
    n_layers: int
    parameters: float
    tokens: int
    shortv_order: tuple[int, ...] = ()
    shortv_source: str = ""
    vtw_depth: int | None = None
    vtw_eta: float | None = None
    vtw_source: str = ""


PUBLISHED: dict[str, Published] = {
    model.name: model
    for model in (
        Published(
            "llava-1.5-7b",
            "llava-hf/llava-1.5-7b-hf",
            n_layers=32,
            parameters=7.06e9,
            tokens=640,
            shortv_order=(31, 29, 30, 28, 0, 26, 27, 25, 24, 22, 23, 21, 2, 3, 20, 18, 17, 12, 19),
            shortv_source=_SHORTV,
            vtw_depth=15,
            vtw_eta=0.003,
            vtw_source=_VTW,
        ),
        Published(
            "llava-next-7b",
            "llava-hf/llava-v1.6-vicuna-7b-hf",
            n_layers=32,
            parameters=7.06e9,
            tokens=2_300,
            shortv_order=(31, 29, 30, 28, 26, 27, 22, 24, 21, 23, 25, 20, 19, 17, 18, 15, 12, 0, 2),
            shortv_source=_SHORTV,
            vtw_eta=0.0001,
            vtw_source=_VTW,
        ),
        Published(
            "qwen2.5-vl-7b",
            "Qwen/Qwen2.5-VL-7B-Instruct",
            n_layers=28,
            parameters=8.29e9,
            tokens=1_100,
        ),
        Published(
            "deepseek-vl-7b",
            "deepseek-community/deepseek-vl-7b-chat",
            n_layers=30,
            parameters=7.34e9,
            tokens=640,
        ),
    )
}


def find_published(name: str) -> Published:
    """The published results on a model.

    Example:
        >>> find_published("llava-1.5-7b").shortv_order[:3]
        (31, 29, 30)
    """
    if name not in PUBLISHED:
        raise BridgeError(f"no published results for '{name}'; choose from {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
