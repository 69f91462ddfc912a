"""A model and its processor, loaded and understood: what every verb of the bridge takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.utils import logging as transformers_logging

from vlm_bridge.errors import BridgeError
from vlm_bridge.layout import Layout, find_layout
from vlm_bridge.reference.cache import reference_folder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class VLM:
    """A loaded vision-language model.

    Attributes:
        name: what the user called it; appears in every result.
        model: the transformers model, in evaluation mode.
        processor: its processor (image processor, tokenizer, chat template).
        layout: where its parts are.
    """

    name: str
    model: PreTrainedModel
    processor: Any
    layout: Layout

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the token embeddings."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device


def load(
    name: str | Path,
    *,
    dtype: str = "float32",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> VLM:
    """Load a VLM: `"reference"`, a folder, or a Hugging Face id.

    Args:
        name: `"reference"` builds the shipped reference VLM on first use (no network); a
            folder is read from disk; anything else is a hub id and uses the network.
        dtype: `float32`, `bfloat16` or `float16`.
        device: a torch device, `"auto"` to spread over devices, or None for the CPU.
        trust_remote_code: run code that comes with the model. Off unless you say so.

    Raises:
        BridgeError: the model is unknown, its weights are not safetensors or are broken,
            its structure is not supported, or the reference's packages are missing.

    Example:
        >>> load("no/such/folder/")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: no model folder at no/such/folder
    """
    if dtype not in DTYPES:
        raise BridgeError(f"unknown dtype '{dtype}'; choose from {', '.join(DTYPES)}")
    if str(name) == "reference":
        with _quiet_transformers():
            source = str(reference_folder())
    else:
        source = _locate(name)
    local = Path(source).is_dir()
    options: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "local_files_only": local,
    }
    try:
        with _quiet_transformers():
            processor = AutoProcessor.from_pretrained(source, **options)
            model = AutoModelForImageTextToText.from_pretrained(
                source,
                dtype=DTYPES[dtype],
                device_map=device,
                use_safetensors=True,
                **options,
            )
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise BridgeError(f"cannot load '{name}': {type(error).__name__}: {first}") from error
    model.eval()
    tokenizer = processor.tokenizer
    return VLM(str(name), model, processor, find_layout(model, tuple(tokenizer.all_special_ids)))


def _locate(name: str | Path) -> str:
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BridgeError(f"{path} is not a model folder: it has no config.json")
        return str(path)
    text = str(name)
    parts = text.split("/")
    if path.is_absolute() or text.startswith(".") or len(parts) > 2 or "" in parts:
        raise BridgeError(f"no model folder at {path}")
    if len(parts) == 1:
        raise BridgeError(
            f"unknown model '{name}': give 'reference', a folder, or a Hugging Face id (owner/name)"
        )
    return text


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' loading chatter and bars off the terminal for a while."""
    level = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
