"""The fingerprint of a model: a hash of its configuration, attention, parameters and buffers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from vlm_bridge.errors import BridgeError

#: Words in a row of the table whose rows and columns are summed.
_TABLE = 4096
#: Plain attributes of modules that say how they run at present.
_STATE = frozenset({"training", "gradient_checkpointing", "max_seq_len_cached"})
#: Entries of a configuration that depend on how a model was loaded or saved, not on what it does.
_VOLATILE = frozenset(
    {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "skipit"}
)


@dataclass(frozen=True)
class _Hashed:
    """A model's attention and adapters, settings and tensors when hashed, and its fingerprint."""

    attention: str
    settings: str
    writes: tuple[tuple[int, int], ...]  # address and number of in-place writes of every tensor
    sums: tuple[int, ...]
    fingerprint: str


_hashed: WeakKeyDictionary[nn.Module, _Hashed] = WeakKeyDictionary()


def fingerprint(model: nn.Module, *, name: str = "the model", quick: bool = False) -> str:
    """SHA-256 of what the model computes with, 64 hexadecimal digits.

    Hashed are the class, the configuration without names and versions, the attention
    implementation, plain settings of every module (such as the scaling of its attention), and name,
    shape, dtype and bytes of every parameter and stored buffer; of layers that hold adapters of
    PEFT, which are active and how they are scaled. The device does not matter. Buffers that a
    checkpoint does not store follow from the configuration.

    The hash is kept. A later call compares address and number of writes of every tensor, sums of
    its 8-byte words by row and by column of a table, which finds changes and exchanges through
    `tensor.data` too, and the settings; if any differs, the model is hashed again. `quick` leaves
    out sums and settings.

    Args:
        model: a transformers model, also with weights that accelerate keeps elsewhere.
        name: of the model, for the error.
        quick: do not read weights and settings if the number of writes is unchanged.

    Raises:
        BridgeError: a weight is not in memory, as in a model of `load_meta`.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2)
        >>> before = fingerprint(layer)
        >>> with torch.no_grad():
        ...     _ = layer.weight.mul_(2)
        >>> len(before), fingerprint(layer) == before
        (64, False)
    """
    attention = _attention_of(model) + _adapters_of(model)
    tensors = [tensor for module in model.modules() for _, tensor in _stored(module)]
    writes = tuple((tensor.data_ptr(), _writes(tensor)) for tensor in tensors)
    known = _hashed.get(model)
    if known is not None and (known.attention, known.writes) != (attention, writes):
        known = None
    if known is not None and quick:
        return known.fingerprint
    _check_readable(model, name)
    settings = _settings_of(model)
    if known is not None and (known.settings, known.sums) == (settings, _sums(tensors)):
        return known.fingerprint
    digest = _digest(model, [attention, settings], name)
    _hashed[model] = _Hashed(attention, settings, writes, _sums(tensors), digest)
    return digest


def _stored(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and stored buffers of one module, without its children."""
    unstored = module._non_persistent_buffers_set
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None and name not in unstored:
            yield from _plain(name, tensor)


def _plain(name: str, tensor: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of which a quantised one is made; any other tensor itself."""
    if not is_traceable_wrapper_subclass(tensor):
        yield name, tensor
        return
    for part in tensor.__tensor_flatten__()[0]:
        yield from _plain(f"{name}.{part}", getattr(tensor, part))


def _check_readable(model: nn.Module, name: str) -> None:
    """Refuse weights that only the code of torch can read, as those of `quantize_dynamic`."""
    for path, module in model.named_modules():
        if any(isinstance(value, torch.ScriptObject) for value in vars(module).values()):
            raise BridgeError(
                f"the weights of {name} are packed ({path}: {type(module).__name__}), so it cannot "
                "be told from another model; quantise its weights with torchao or quanto"
            )


def _writes(tensor: Tensor) -> int:
    """Number of in-place writes; tensors made in inference mode do not count them."""
    return -1 if tensor.is_inference() else tensor._version


def _sums(tensors: Iterable[Tensor]) -> tuple[int, ...]:
    """Weighted sums of the words of every tensor in memory; one transfer per device."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        if not tensor.is_meta:
            by_device.setdefault(tensor.device, []).append(_sum(_bytes_of(tensor)))
    return tuple(total for sums in by_device.values() for total in torch.stack(sums).tolist())


def _sum(content: Tensor) -> Tensor:
    """Sums of the rows and of the columns of a table of 8-byte words, weighted, modulo 2^64.

    A change of one word changes it, and so does an exchange of two, unless they are equal.
    """
    if content.storage_offset() % 8:  # words have to be aligned within the storage
        content = content.clone()
    whole = content.numel() // (8 * _TABLE) * 8 * _TABLE
    words = content[:whole].view(torch.int64).view(-1, _TABLE)
    parts = (words.sum(1), words.sum(0), content[whole:].long())
    total = torch.zeros((), dtype=torch.int64, device=content.device)
    for number, part in enumerate(parts):
        place = torch.arange(len(part), device=part.device)
        total = total + ((2 * place + 1) * part).sum() * (2 * number + 3)
    return total


def _bytes_of(tensor: Tensor) -> Tensor:
    """The content of a tensor as bytes, on its device."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _digest(model: nn.Module, settings: list[str], name: str) -> str:
    """The hash itself; tensors are hashed in threads, tied tensors once."""
    known: dict[Any, str] = {}
    lines = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, module in model.named_modules():
            with align_module_device(module):
                own = {f"{path}.{key}" if path else key: t for key, t in _stored(module)}
                if lost := next((key for key, t in own.items() if t.is_meta), None):
                    raise BridgeError(
                        f"the weights of {name} are not in memory ({lost} is on the meta device), "
                        "so it cannot be told from another model; load it with its weights"
                    )
                places = {key: (t.data_ptr(), t.shape, t.stride()) for key, t in own.items()}
                new = {place: own[key] for key, place in places.items() if place not in known}
                known |= zip(new, pool.map(_hash_of, new.values()), strict=True)
                for key, tensor in own.items():
                    lines.append([key, list(tensor.shape), str(tensor.dtype), known[places[key]]])
    body = [type(model).__name__, settings, sorted(lines)]
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()


def _hash_of(tensor: Tensor) -> str:
    return hashlib.sha256(_bytes_of(tensor).cpu().numpy().data).hexdigest()


def _settings_of(model: nn.Module) -> str:
    """The configuration of a model, and the plain settings of its modules."""
    config = getattr(model, "config", None)
    stored = None if config is None else _behaviour(config.to_diff_dict())
    modules = [
        [path, name, value]
        for path, module in model.named_modules()
        if not isinstance(module, PreTrainedModel)  # its settings are those of its configuration
        for name, value in vars(module).items()
        if type(value) in (bool, int, float, str) and name[0] != "_" and name not in _STATE
    ]
    return json.dumps([stored, modules], sort_keys=True, default=str)


def _adapters_of(model: nn.Module) -> str:
    """How PEFT's layers use their adapters at present; empty without such layers."""
    found = [
        [path, name, getattr(module, name, None)]
        for path, module in model.named_modules()
        if hasattr(module, "base_layer")
        for name in ("active_adapters", "disable_adapters", "merged_adapters", "scaling")
    ]
    return json.dumps(found, sort_keys=True, default=str) if found else ""


def _behaviour(config: Any) -> Any:
    """A configuration without the entries that say how a model was loaded or saved."""
    if not isinstance(config, dict):
        return config
    return {key: _behaviour(value) for key, value in config.items() if key not in _VOLATILE}


def _attention_of(model: nn.Module) -> str:
    """The attention implementation of a model and of its parts, by name."""
    configs = {
        path: config._attn_implementation
        for path, module in model.named_modules()
        if (config := getattr(module, "config", None)) is not None
        and hasattr(config, "_attn_implementation")
    }
    return json.dumps(sorted(set(configs.items())))
