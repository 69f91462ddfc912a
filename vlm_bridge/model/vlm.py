"""Load a model, with its processor or tokenizer, and find the parts of the model."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
)

from vlm_bridge.errors import BridgeError, first_line
from vlm_bridge.model.fingerprint import fingerprint
from vlm_bridge.model.in_use import check_whole, held_whole
from vlm_bridge.model.layout import Layout, find_layout
from vlm_bridge.model.settings import generation_settings, processor_settings
from vlm_bridge.reference.cache import reference_folder
from vlm_bridge.reference.recipe import RECIPES
from vlm_bridge.runtime.distributed import local_device
from vlm_bridge.runtime.processors import load_processor
from vlm_bridge.runtime.quiet import quiet_transformers
from vlm_bridge.third_party.catalogue import names_of
from vlm_bridge.third_party.folders import model_folder

#: Classes of encoder-decoders -> the Auto class that makes them.
_ENCODER_DECODERS = (
    (MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, AutoModelForSpeechSeq2Seq),
    (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModelForSeq2SeqLM),
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class VLM:
    """A loaded model: of language with vision or audio, or of text only.

    Attributes:
        name: the name it was loaded by; appears in every result.
        model: the transformers model, in evaluation mode.
        processor: its processor (image processor, feature extractor, tokenizer, chat template); of
            a text-only model, its tokenizer.
        layout: where its parts are.
    """

    name: str
    model: PreTrainedModel
    processor: Any
    layout: Layout

    @classmethod
    def of(cls, name: str, model: PreTrainedModel, processor: Any) -> VLM:
        """A model with its parts found; the processor may be a tokenizer or None."""
        own = tokenizer_of(processor)
        special = () if own is None else tuple(own.all_special_ids)
        return cls(name, model, processor, find_layout(model, special))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer: that of the processor, or the processor itself."""
        return tokenizer_of(self.processor)

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device on which token embeddings are looked up."""
        embeddings = self.model.get_input_embeddings()
        device: torch.device = embeddings.weight.device
        if device.type == "meta":  # accelerate keeps the weights elsewhere
            place = getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None)
            return device if place is None else torch.device(place)
        return device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that answers depend on: model, `generation_config` and processor.

        Of the model: weights, dtype, attention and configuration; see `model.fingerprint`. Of the
        processor: tokenizer, chat template and image settings.

        Raises:
            BridgeError: the model skips at present, or a weight is not in memory.
        """
        check_whole(self.name, self.layout.layers)
        return self.running_fingerprint(quick=False)

    def running_fingerprint(self, *, quick: bool) -> str:
        """`fingerprint`, also while the model skips; `quick` as in `model.fingerprint`."""
        of_model = fingerprint(self.model, name=self.name, quick=quick)
        body = [of_model, generation_settings(self.model), processor_settings(self.processor)]
        return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """A block that runs the full model: refused while it skips, and no plan begins in it."""
        return held_whole(self.name, self.layout.layers)


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer of a processor; a tokenizer is its own."""
    return getattr(processor, "tokenizer", processor)


def load(
    name: str | Path,
    *,
    dtype: str = "float32",
    device: str | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> VLM:
    """Load a model: one of ours, one that was fetched, a folder, or a Hugging Face id.

    Models of text with images, video or audio, and of text only. An unsupported family is refused
    before the weights are read. Without torchvision, a processor
    that also takes videos is loaded for images alone.

    Args:
        name: `"reference"`, `"reference-smolvlm"`, ... (`vlm_bridge.reference.shipped_models()`
            lists them; built on first use, without network), a model of others that `skipit
            models get` fetched, a folder, or a hub id (network).
        dtype: `float32`, `bfloat16` or `float16`.
        device: a torch device, `"auto"` to spread over devices, or None for the CPU. Under
            torchrun, `"cuda"` is the GPU of the process.
        attention: `sdpa`, `eager`, `flash_attention_2`; None is the model's own default.
        trust_remote_code: run code that comes with the model.

    Raises:
        BridgeError: the model is unknown, its weights are not safetensors or are broken,
            tensors of the model are missing, its structure is not supported, or the reference's
            packages are missing.

    Example:
        >>> load("no/such/folder/")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: no model folder at no/such/folder
    """
    if dtype not in DTYPES:
        raise BridgeError(f"unknown dtype '{dtype}'; choose from {', '.join(DTYPES)}")
    check_device(device)
    source, options, config, kind = _read_config(name, trust_remote_code)
    if not trust_remote_code:  # remote code may fail on the meta device; it is checked later
        find_layout(_on_meta(name, kind, config, trust_remote_code))
    with _reading(name):
        processor = load_processor(source, config, **options)
        model, info = kind.from_pretrained(
            source,
            dtype=DTYPES[dtype],
            device_map=local_device(device),
            use_safetensors=True,
            output_loading_info=True,
            **options,
            **({} if attention is None else {"attn_implementation": attention}),
        )
        check_complete(info)
    model.eval()
    return VLM.of(str(name), model, processor)


def check_device(device: str | None) -> None:
    """Refuse what names no device, and a CUDA device that this machine does not have."""
    if device in (None, "auto"):
        return
    try:
        kind = torch.device(str(device))
    except RuntimeError:
        raise BridgeError(f"'{device}' names no device; give cpu, cuda, cuda:0 or auto") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        n = torch.cuda.device_count()
        found = f"it has {n} CUDA device{'s' * (n != 1)}" if n else "it has no CUDA device"
        raise BridgeError(f"this machine cannot run on '{device}': {found}")


def check_complete(info: dict[str, Any]) -> None:
    """Refuse a checkpoint that left tensors of the model with random values."""
    for lost, words in (("missing_keys", "lacks"), ("mismatched_keys", "has other shapes of")):
        if names := sorted(str(entry) for entry in info.get(lost) or ()):
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            raise BridgeError(
                f"the checkpoint {words} {len(names)} tensors, which would be random: {shown}"
            )


def load_meta(name: str | Path, *, trust_remote_code: bool = False) -> VLM:
    """A model without its weights, on the meta device: enough to describe it, not to run it.

    Arguments are those of `load`. If the tokenizer cannot be read, no special tokens are known.

    Raises:
        BridgeError: as `load`, except for errors of the weights.

    Example:
        >>> load_meta("llava-hf/llava-1.5-7b-hf").layout.n_layers  # doctest: +SKIP
        32
    """
    source, options, config, kind = _read_config(name, trust_remote_code)
    model = _on_meta(name, kind, config, trust_remote_code)
    tokenizer = None
    if not Path(source).is_dir() or any(Path(source).glob("tokenizer*")):
        with contextlib.suppress(OSError, ValueError), quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
    return VLM.of(str(name), model, tokenizer)


def _read_config(name: str | Path, trust: bool) -> tuple[str, dict[str, Any], Any, Any]:
    """The model's source, options for transformers, configuration and Auto class."""
    source = _locate(name)
    options = {"trust_remote_code": trust, "local_files_only": Path(source).is_dir()}
    with _reading(name):
        config = AutoConfig.from_pretrained(source, **options)
        return source, options, config, _auto_class(config, trust)


def _auto_class(config: Any, trust_remote_code: bool) -> Any:
    """The Auto class of a configuration: for image, video or audio beside text, or text only."""
    own = getattr(config, "auto_map", None) or {}
    if trust_remote_code:
        for kind in (AutoModelForMultimodalLM, AutoModelForImageTextToText, AutoModelForCausalLM):
            if kind.__name__ in own:
                return kind
    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return AutoModelForMultimodalLM
    for mapping, kind in _ENCODER_DECODERS:
        if getattr(config, "is_encoder_decoder", False) and type(config) in mapping:
            return kind
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    hint = "; its own code may: pass trust_remote_code" if own else ""
    raise BridgeError(f"model type '{config.model_type}' is no language model{hint}")


def _on_meta(name: str | Path, kind: Any, config: Any, trust_remote_code: bool) -> PreTrainedModel:
    with _reading(name), torch.device("meta"):
        model: PreTrainedModel = kind.from_config(config, trust_remote_code=trust_remote_code)
    return model


@contextlib.contextmanager
def _reading(name: str | Path) -> Iterator[None]:
    """Silence transformers, and turn any exception into one line that names the model."""
    try:
        with quiet_transformers():
            yield
    except Exception as error:
        kind = "" if isinstance(error, BridgeError) else f"{type(error).__name__}: "
        raise BridgeError(f"cannot load '{name}': {kind}{first_line(error)}") from error


def _locate(name: str | Path) -> str:
    """The folder or hub id of a model; builds one of ours, converts a fetched one."""
    ours = str(name) in RECIPES or str(name).split("-")[0] == "reference"
    if ours and not Path(name).is_dir():
        with quiet_transformers():
            return str(reference_folder(str(name)))
    if str(name) in names_of("model") and not Path(name).is_dir():
        return str(model_folder(str(name)))
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
            f"unknown model '{name}': give one of {', '.join(RECIPES)}, a model of others "
            f"({', '.join(names_of('model'))}), a folder, or a Hugging Face id (owner/name)"
        )
    return text
