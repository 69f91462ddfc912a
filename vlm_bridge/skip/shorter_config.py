"""Shorten a configuration to some layers of a stack: their number, and all entries by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.stacks import DECODER, STACKS

#: Entries that list layer numbers.
_INDEX_LISTS = ("mlp_only_layers", "moe_layers", "fullatt_block_indexes", "cross_attention_layers")
#: Entries that list layers after which features are taken.
_TAKEN_AFTER = ("deepstack_visual_indexes",)
#: Entries that count the first layers, which are of another kind.
_COUNTS = ("first_k_dense_replace", "max_window_layers")
#: Entries that count the last layers, which are of another kind.
_COUNTS_FROM_END = ("num_kv_shared_layers",)
#: Names of the number of layers of an encoder.
_DEPTHS = ("num_hidden_layers", "depth", "num_layers", "encoder_layers")


def shorten(config: Any, stack: str, n_layers: int, layers: Sequence[int]) -> None:
    """Edit the configuration of a model in place: `stack`, of `n_layers`, gets these layers only.

    Raises:
        BridgeError: features are taken after a layer that is left out, single layers have values
            of their own, or no entry of the configuration is the number of layers.
    """
    if config.is_encoder_decoder:
        name = "decoder_layers" if stack == DECODER else "encoder_layers"
        _set_depth(config, (name,), stack, n_layers, len(layers))
        if stack != DECODER and "num_hidden_layers" in vars(config):
            config.num_hidden_layers = len(layers)
        return
    if stack == DECODER:
        own = config.get_text_config(decoder=True)
    else:
        own = getattr(config, f"{stack}_config", config)
    if own.to_dict().get("per_layer_config"):
        raise BridgeError(
            f"the configuration of the {STACKS[stack]} gives single layers values of their own "
            "(per_layer_config), which are not renumbered, so it cannot be pruned; run the model "
            "with skipping(vlm, plan)"
        )
    for name, value in list(vars(own).items()):
        if name in _TAKEN_AFTER and value and set(value) - set(layers):
            raise BridgeError(
                f"features are taken after layer {min(set(value) - set(layers))} of the "
                f"{STACKS[stack]} ({name}); without that layer they would be others, so it cannot "
                "be pruned"
            )
        if name in (*_INDEX_LISTS, *_TAKEN_AFTER) and value:
            setattr(own, name, [layers.index(layer) for layer in value if layer in layers])
        elif name in _COUNTS and isinstance(value, int):
            setattr(own, name, sum(layer < value for layer in layers))
        elif name in _COUNTS_FROM_END and isinstance(value, int):
            setattr(own, name, sum(layer >= n_layers - value for layer in layers))
        elif "layer" in name and isinstance(value, list | tuple) and len(value) == n_layers:
            setattr(own, name, type(value)(value[layer] for layer in layers))
    if stack == DECODER:
        own.num_hidden_layers = len(layers)
        if layer_map := getattr(config, "deepstack_layer_map", None):
            config.deepstack_layer_map = [(seen, layers.index(layer)) for seen, layer in layer_map]
        return
    _set_depth(own, _DEPTHS, stack, n_layers, len(layers))
    if stack == "vision" and (taken := getattr(config, "vision_feature_layer", None)) is not None:
        moved = [_moved(state, n_layers, layers) for state in _listed(taken)]
        config.vision_feature_layer = moved if isinstance(taken, list | tuple) else moved[0]


def _set_depth(config: Any, names: Sequence[str], stack: str, old: int, new: int) -> None:
    known = [name for name in names if vars(config).get(name) == old]
    if not known:
        raise BridgeError(
            f"the configuration of the {STACKS[stack]} says nowhere that it has {old} layers, so "
            "that it cannot be shortened"
        )
    for name in known:
        setattr(config, name, new)


def _moved(state: int, n_layers: int, layers: Sequence[int]) -> int:
    """The place of a state among those left, counted from the end where it was so before.

    State l is the input of layer l; the last one is the output of the last layer.
    """
    from_start = state if state >= 0 else state + n_layers + 1
    place = sum(layer < from_start for layer in layers)
    if place == len(layers) and from_start < n_layers:
        raise BridgeError(
            f"the features are taken before layer {from_start} of the vision encoder, and a norm "
            f"may come after its last layer; keep one of the layers {from_start} to {n_layers - 1}"
        )
    return place if state >= 0 else place - len(layers) - 1


def _listed(value: Any) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]
