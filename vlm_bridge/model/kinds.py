"""The kind of every decoder layer: what it passes from token to token, and what it caches."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    CacheLayerMixin,
    DynamicIndexedLayer,
    LinearAttentionCacheLayerMixin,
)

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import MODES

#: Self-attention of which the cache is one key and one value per token: every mode can skip it.
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
#: A layer that looks at the image through cross-attention, and at no other token of the text.
CROSS_ATTENTION = "cross_attention"
#: A layer whose keys and values later layers use, and one that uses those of an earlier layer.
SHARED_KEYS, REUSED_KEYS = "shared_keys", "reused_keys"
#: Layers that pass nothing from token to token.
_TOKENWISE = ("moe", "mlp")


def modes_of(kind: str) -> tuple[str, ...]:
    """The modes that can skip a layer of this kind.

    >>> modes_of("conv"), modes_of("shared_keys"), "freeze" in modes_of("full_attention")
    (('block',), (), True)
    """
    if kind in ATTENTION:
        return tuple(MODES)
    return () if kind == SHARED_KEYS else ("block",)


def layer_kinds(model: str, config: Any, layers: nn.ModuleList) -> tuple[str, ...]:
    """The kind of every layer of a decoder, as its configuration or its structure names it.

    Raises:
        BridgeError: a layer is of no known kind, no layer has self-attention, or layers pass on
            several versions of every token.
    """
    _check_streams(model, config)
    named = getattr(config, "layer_types", None) or [None] * len(layers)
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    kinds = [
        _kind(f"{model}: layer {index} ({type(layer).__name__})", index, layer, name)
        or ("sliding_attention" if slides else "full_attention")
        for index, (layer, name) in enumerate(zip(layers, named, strict=True))
    ]
    for index, sharing in enumerate(getattr(config, "kv_sharing_modes", None) or ()):
        kinds[index] = {"store": SHARED_KEYS, "reuse": REUSED_KEYS}.get(sharing, kinds[index])
    if not any(map(_counts, kinds)):
        raise BridgeError(
            f"{model}: none of its layers has self-attention ({', '.join(sorted(set(kinds)))}), so "
            "that its cache does not count tokens; such stacks are not supported"
        )
    return tuple(kinds)


def _check_streams(model: str, config: Any) -> None:
    """Refuse keys shared in a way that is not known, and more than one residual stream."""
    shared = getattr(config, "num_kv_shared_layers", None)
    if shared and getattr(config, "kv_sharing_modes", None) is None:
        raise BridgeError(
            f"{model}: its last {shared} layers use the keys and values of earlier ones "
            f"(num_kv_shared_layers={shared}), and its configuration does not say of which"
        )
    for name, what in (("altup_num_inputs", "AltUp"), ("hc_mult", "hyper-connections")):
        if (copies := getattr(config, name, None) or 1) > 1:
            raise BridgeError(
                f"{model}: its layers pass on {copies} versions of every token ({what}); only "
                "layers with one residual stream are supported"
            )


def _kind(where: str, index: int, layer: nn.Module, named: str | None) -> str | None:
    """The kind of one layer; None for self-attention that the configuration does not name."""
    attends = any(getattr(child, "layer_idx", None) == index for child in layer.children())
    if hasattr(layer, "cross_attn") or hasattr(layer, "encoder_attn"):
        if getattr(layer, "self_attn", None) is None:
            return CROSS_ATTENTION
        raise BridgeError(
            f"{where} has self-attention and cross-attention in one layer; beside images only "
            "layers with one of the two are supported"
        )
    if named is None or named in ATTENTION:
        if attends:
            return named
        mixers = [name for name, _ in layer.named_children() if "norm" not in name]
        raise BridgeError(
            f"{where} is not a self-attention layer but made of {', '.join(mixers)}, and its "
            "configuration (layer_types) does not say of which kind; it is not supported"
        )
    if named in _TOKENWISE or _recurs(named) or _indexes(named):
        return named
    raise BridgeError(
        f"{where} is of type '{named}', whose cache is not known; supported are "
        f"{', '.join(_supported())}"
    )


def _supported() -> list[str]:
    others = (name for name in DYNAMIC_LAYER_TYPE_MAPPING if _recurs(name) or _indexes(name))
    return [*ATTENTION, *sorted(others), *_TOKENWISE]


def _counts(kind: str) -> bool:
    """Whether the cache of a layer of this kind knows how many tokens came before."""
    return kind == SHARED_KEYS or issubclass(
        DYNAMIC_LAYER_TYPE_MAPPING.get(kind, object), CacheLayerMixin
    )


def _recurs(kind: str) -> bool:
    """Whether transformers caches a recurrent or convolution state for layers of this kind."""
    cached = DYNAMIC_LAYER_TYPE_MAPPING.get(kind, object)
    return issubclass(cached, LinearAttentionCacheLayerMixin)


def _indexes(kind: str) -> bool:
    """Whether transformers caches the keys of an index beside keys and values."""
    return DYNAMIC_LAYER_TYPE_MAPPING.get(kind) is DynamicIndexedLayer
