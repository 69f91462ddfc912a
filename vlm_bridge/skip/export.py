"""Export a model without the layers of a `block` plan: smaller, and of the same class."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.finite import BrokenModel
from vlm_bridge.model.given import check_vlm, given_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER, STACKS
from vlm_bridge.runtime.files import new_folder, write_bytes, write_json
from vlm_bridge.skip.shorter_config import shorten
from vlm_bridge.skip.support import check_model, check_support

#: Key of the exported configuration that records the source model and the plan.
RECORD = "skipit"
PLAN_FILE = "skip_plan.json"
_NOT_A_BLOCK = "standard classes cannot decide at run time which tokens a layer processes"
_HALF_A_LAYER = (
    "standard classes have no layer without attention or MLP, and zeroed weights would save nothing"
)


def prune(vlm: VLM, plan: SkipPlan | str, folder: str | Path) -> Path:
    """Export the model without the layers that `plan` skips, as safetensors.

    The remaining layers are renumbered and the configuration is shortened; class, tied weights,
    generation settings and processor stay. The folder loads with `from_pretrained`, without this
    package, and the model answers as under `skipping(vlm, plan)`. The folder is written atomically.

    Args:
        vlm: the model, which is not changed.
        plan: of mode `block`.
        folder: a folder that does not exist yet, or is empty; it is returned.

    Raises:
        BridgeError: the plan is not of mode `block`, leaves no layer of a stack, or skips one after
            which vision features are added or taken; no configuration of the class describes the
            remaining layers; a kept weight is NaN or infinite; the folder is not empty or cannot be
            written.

    Example:
        >>> plan = SkipPlan("block", n_layers=30, layers=(11, 12, 20))
        >>> prune(load("reference"), plan, "out/smaller")  # doctest: +SKIP
        PosixPath('out/smaller')
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    _check_weights(vlm)
    kept = {name: _remaining_layers(vlm, part) for name, part in plan.by_stack.items()}
    check_support(vlm, plan)
    short = replace(plan, provenance=Provenance())  # it may name thousands of images
    whose = {"source": vlm.name, "fingerprint": vlm.fingerprint}
    by_name = {name: list(layers) for name, layers in kept.items()}
    record = {**whose, "plan": short.to_json(), "kept_layers": by_name.get(plan.stack, by_name)}
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BridgeError(f"{folder} exists and is no empty folder; name a new or an empty one")
    with new_folder(folder) as partial:
        model = _smaller(vlm, kept)
        setattr(model.config, RECORD, record)
        try:
            model.save_pretrained(partial)
            if vlm.processor is not None:
                vlm.processor.save_pretrained(partial)
        except (OSError, ValueError) as error:
            raise BridgeError(f"cannot save the pruned model: {error}") from error
        write_json(partial / PLAN_FILE, plan.to_json())
        write_bytes(partial / "README.md", _card(vlm, plan, kept).encode())
    return folder


def _check_weights(vlm: VLM) -> None:
    """Refuse weights that are no plain tensors, which a standard file cannot hold."""
    for name, parameter in vlm.model.named_parameters():
        if is_traceable_wrapper_subclass(parameter):
            raise BridgeError(
                f"the weights of {vlm.name} are quantised or spread ({name} is a "
                f"{type(parameter).__name__}); prune the model first, then quantise it"
            )


def _remaining_layers(vlm: VLM, plan: SkipPlan) -> tuple[int, ...]:
    """The layers that a plan of one stack leaves."""
    plan.check_depth(vlm.layout.depth(plan.stack))
    check_model(vlm, plan)
    for part in plan.parts or (plan,):
        if part.mode != "block":
            why = _HALF_A_LAYER if part.mode == "sublayer" else _NOT_A_BLOCK
            raise BridgeError(
                f"prune exports plans of mode block, not {part.mode}: {why}; use "
                "skipping(vlm, plan)"
            )
    if len(plan.layers) == plan.n_layers:
        raise BridgeError(f"the plan skips all {plan.n_layers} layers; prune leaves at least one")
    inserted = vlm.layout.deepstack_layers if plan.stack == DECODER else ()
    if moved := [layer for layer in inserted if layer in plan.layers]:
        raise BridgeError(
            f"{type(vlm.model).__name__} adds vision features behind layer {moved[0]} "
            "(DeepStack); without that layer they would be added elsewhere, so it cannot be pruned"
        )
    return tuple(layer for layer in range(plan.n_layers) if layer not in plan.layers)


def _smaller(vlm: VLM, kept: dict[str, tuple[int, ...]]) -> Any:
    """A new model of the same class with these layers of its stacks, which shares their weights."""
    old: Any = vlm.model
    weights = old.state_dict()
    if lost := [name for name, value in weights.items() if value.is_meta]:
        raise BridgeError(
            f"the weights of {vlm.name} are not in memory ({lost[0]} is on the meta device); load "
            "the model without offloading"
        )
    _check_finite(vlm, kept)
    config = copy.deepcopy(old.config)
    for name, layers in kept.items():
        shorten(config, name, vlm.layout.depth(name), layers)
    # Some families change a configuration when they read it from disk.
    config = type(config).from_dict(json.loads(config.to_json_string()))
    with torch.device("meta"):
        new = type(old)(config)
    for name, layers in kept.items():
        was = vlm.layout.stack(name).layers
        path = next(path for path, part in old.named_modules() if part is was)
        for layer, new_layer in zip(layers, new.get_submodule(path), strict=True):
            _check_same(type(old).__name__, layer, was[layer], new_layer)
        weights = dict(_renamed(weights, f"{path}.", layers))
    new.load_state_dict(weights, strict=True, assign=True)
    new.tie_weights()
    new.generation_config = copy.deepcopy(old.generation_config)
    return new.eval()


def _check_finite(vlm: VLM, kept: dict[str, tuple[int, ...]]) -> None:
    """Refuse weights that are NaN or infinite, in these layers or outside the layers left out."""
    inside = {
        id(parameter): (name, layer)
        for name in kept
        for layer, module in enumerate(vlm.layout.stack(name).layers)
        for parameter in module.parameters()
    }
    for name, parameter in vlm.model.named_parameters():
        stack, layer = inside.get(id(parameter), (DECODER, None))
        value = parameter.detach()
        if not value.is_floating_point() or not (layer is None or layer in kept[stack]):
            continue
        if value.element_size() == 1:  # 8-bit numbers have no `isfinite`
            value = value.float()
        if not value.isfinite().all():
            kind = "NaN" if value.isnan().any() else "infinite"
            where = "" if layer is None else f" of layer {layer}"
            raise BrokenModel(
                f"{vlm.name} is broken: weights{where} are {kind} ({name}); nothing that the "
                "pruned model answers could be trusted"
            )


def _renamed(
    weights: dict[str, Tensor], prefix: str, layers: tuple[int, ...]
) -> Iterator[tuple[str, Tensor]]:
    for name, value in weights.items():
        layer, _, rest = name.removeprefix(prefix).partition(".")
        if not name.startswith(prefix):
            yield name, value
        elif int(layer) in layers:
            yield f"{prefix}{layers.index(int(layer))}.{rest}", value


def _check_same(family: str, layer: int, old: nn.Module, new: nn.Module) -> None:
    """Refuse a new layer that differs from the old one in more than its weights."""
    was, now = dict(_traits(old)), dict(_traits(new))
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            raise BridgeError(
                f"{family}: the configuration cannot describe layer {layer} at its new place: "
                f"{name} is {was.get(name)}, but would be {now.get(name)}"
            )


def _traits(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """Shapes of parameters, and class and plain settings of modules, of a layer."""
    for name, parameter in layer.named_parameters():
        yield f"shape of {name}", tuple(parameter.shape)
    for path, module in layer.named_modules():
        yield f"class of {path or 'the layer'}", type(module).__name__
        for name, value in vars(module).items():
            plain = isinstance(value, bool | int | float | str) or value is None
            if plain and not name.startswith("_") and name not in ("layer_idx", "training"):
                yield f"{path}.{name}" if path else name, value


def _card(vlm: VLM, plan: SkipPlan, kept: dict[str, tuple[int, ...]]) -> str:
    counts = [
        f"{len(layers)} of {plan.by_stack[name].n_layers} {STACKS[name]} layers"
        for name, layers in kept.items()
    ]
    numbers = [", ".join(map(str, layers)) for layers in kept.values()]
    return f"""---
library_name: transformers
tags: [layer-skipping]
---

# {vlm.name}, pruned

{type(vlm.model).__name__} with {" and ".join(counts)}: {plan.describe()}.
Layers kept, by their old numbers: {"; ".join(numbers)}.

The weights of the kept layers are those of the source, {vlm.name}, and were not trained again.
The plan is in `{PLAN_FILE}`; `config.json` repeats it under `{RECORD}`.

```python
from transformers import AutoProcessor, {type(vlm.model).__name__}

model = {type(vlm.model).__name__}.from_pretrained("path/to/this/folder")
processor = AutoProcessor.from_pretrained("path/to/this/folder")
```
"""
