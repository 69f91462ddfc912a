"""Make a `VLM` of a model that is in memory already, however it was loaded or changed."""

from __future__ import annotations

from inspect import signature
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.utils import is_torchvision_available

from vlm_bridge.errors import BridgeError, got, shown
from vlm_bridge.model.vlm import VLM, tokenizer_of


def wrap(model: Any, processor: Any, *, name: str | None = None) -> VLM:
    """A `VLM` of a transformers model that was loaded, tuned or quantised elsewhere.

    Nothing is copied or changed, and a change made later to the model holds for the `VLM`, too. The
    model runs with its weights as they are: quantised ones, those that accelerate spreads or
    offloads (`device_map`), LoRA adapters that are not merged. Its fingerprint is of these weights
    and adapters. What `torch.compile(model)` gives runs as the model that was compiled.

    PEFT: adapters that live in the layers (LoRA, IA3 and the like) are taken, with the scaling and
    the choice of adapter of the moment. Virtual tokens (prefix and prompt tuning), which only
    PEFT's own wrapper puts before the prompt, are refused.

    Args:
        model: a transformers model that generates, in evaluation mode; as PEFT or `torch.compile`
            wraps it, too.
        processor: its processor, or the tokenizer of a text-only model.
        name: appears in every result; default: the folder or id it was loaded from, else its class.

    Raises:
        BridgeError: no transformers model; one that does not generate, is in training mode, has no
            weights in memory or a structure that is not supported; no processor, one without
            tokenizer, or that of another model.

    Example:
        >>> vlm = wrap(model, processor, name="mine")  # doctest: +SKIP
        >>> wrap("my-model", None)
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: a transformers model is wanted, got 'my-model'; vb.load \
reads one from a folder or an id
    """
    core = core_of(model)
    kind = type(core).__name__
    if not core.can_generate():
        raise BridgeError(
            f"{kind} generates no text, so that it has no answers; load it with its language head, "
            "as AutoModelForImageTextToText or AutoModelForCausalLM do"
        )
    if part := next((path or "all" for path, m in core.named_modules() if _trains(m)), None):
        raise BridgeError(
            f"{kind} is in training mode ({part}), where answers may be random; "
            "call model.eval() first"
        )
    hooked = any(hasattr(module, "_hf_hook") for module in core.modules())
    empty = next((path for path, tensor in core.named_parameters() if tensor.is_meta), None)
    if empty is not None and not hooked:
        raise BridgeError(
            f"{kind} has no weights in memory ({empty} is on the meta device); load it with them"
        )
    _check_tokenizer(kind, processor)
    vlm = VLM.of(name or getattr(core.config, "name_or_path", "") or kind, core, processor)
    _check_fits(vlm)
    return vlm


def given_vlm(model: Any) -> VLM:
    """A `VLM` as it is; one without processor of a transformers model, to run plans alone.

    Raises:
        BridgeError: neither of both, or a structure that is not supported.
    """
    if isinstance(model, VLM):
        return model
    core = core_of(model)
    return VLM.of(getattr(core.config, "name_or_path", "") or type(core).__name__, core, None)


def core_of(model: Any) -> PreTrainedModel:
    """The transformers model inside what `torch.compile` and PEFT make of it.

    Raises:
        BridgeError: there is none, or PEFT adds tokens to the prompt.
    """
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, nn.Module) and hasattr(model, "get_base_model"):  # PEFT's wrapper
        for adapter, config in getattr(model, "peft_config", {}).items():
            if getattr(config, "is_prompt_learning", False):
                raise BridgeError(
                    f"the adapter {shown(adapter)} ({type(config).__name__}) puts virtual tokens "
                    "before every prompt, outside the transformers model; only adapters inside its "
                    "layers, such as LoRA, are supported: give model.get_base_model() to run "
                    "without it"
                )
        inside: Any = model.get_base_model
        model = inside()
    if isinstance(model, PreTrainedModel):
        return model
    raise BridgeError(f"a transformers model is wanted, got {_got(model)}")


def _got(model: Any) -> str:
    """What was given in place of a model, and what to do."""
    if isinstance(model, str | int) or model is None or hasattr(model, "__fspath__"):
        return f"{shown(model)}; vb.load reads one from a folder or an id"
    kind = got(model)
    if tokenizer_of(model) is not model or hasattr(model, "all_special_ids"):
        own = getattr(model, "model", None)
        if isinstance(own, nn.Module):  # a pipeline
            return f"{kind}; give its parts: vb.wrap(pipe.model, pipe.processor or pipe.tokenizer)"
        return f"{kind}; the model comes first, then the processor: vb.wrap(model, processor)"
    if isinstance(getattr(model, "module", None), PreTrainedModel):
        return f"{kind}; give what it wraps, model.module"
    return kind


def _trains(module: nn.Module) -> bool:
    """Whether a module is in training mode and may run otherwise then; a mere map does not."""
    drops = isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._NormBase)
    return module.training and (drops or bool(module._modules))


def _check_tokenizer(kind: str, processor: Any) -> None:
    """Refuse what cannot turn text into tokens."""
    if processor is None:
        raise BridgeError(
            f"{kind} is given no processor, which makes its prompts: pass that of its folder, "
            "AutoProcessor.from_pretrained(...), or AutoTokenizer for a text-only model; "
            "vb.skipping(model, plan) alone needs none"
        )
    tokenizer = tokenizer_of(processor)
    if not callable(tokenizer) or not hasattr(tokenizer, "all_special_ids"):
        raise BridgeError(
            f"{type(processor).__name__} has no tokenizer; give the whole processor of {kind}, "
            "AutoProcessor.from_pretrained(...)"
        )


def _check_fits(vlm: VLM) -> None:
    """Refuse the processor of another model: more tokens, other placeholders, other inputs."""
    own, kind = type(vlm.processor).__name__, type(vlm.model).__name__
    words, rows = int(vlm.tokenizer.vocab_size), len(vlm.model.get_input_embeddings().weight)
    if words > rows:
        raise BridgeError(
            f"{own} is not the processor of this {kind}: it knows {words} tokens, and the model "
            f"embeds {rows}; give the one that was saved with the model"
        )
    for modality in ("image", "audio"):
        ids = getattr(vlm.layout, f"{modality}_ids")
        found = _written_for(vlm, modality)
        if ids and found and not found & {*ids}:
            raise BridgeError(
                f"{own} is not the processor of this {kind}: it writes token {min(found)} for "
                f"{modality} features, and the model reads them at token {ids[0]}; give the one "
                "that was saved with the model"
            )
    images = getattr(vlm.processor, "image_processor", None)
    if not vlm.layout.image_ids or images is None:
        return
    made, wanted = {*images.model_input_names}, _inputs_of_own(vlm.model.config.model_type)
    taken = {*signature(vlm.model.forward).parameters}
    for wrong, says in ((made - taken - wanted, "makes"), (wanted & taken - made, "does not make")):
        if wrong:
            raise BridgeError(
                f"{own} is not the processor of this {kind}: it {says} {', '.join(sorted(wrong))} "
                "of an image, unlike that of the model; give the one that was saved with the model"
            )


def _inputs_of_own(model_type: str) -> set[str]:
    """What the image processor of a model type makes; empty where transformers names none here."""
    names: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type) or {}
    backend = "torchvision" if is_torchvision_available() else "pil"
    own = names.get(backend) or names.get("pil")
    return {*getattr(transformers, own).model_input_names} if own else set()


def _written_for(vlm: VLM, modality: str) -> set[int]:
    """Ids of the tokens that the processor names as those of a modality."""
    tokens = [getattr(each, f"{modality}_token", None) for each in (vlm.processor, vlm.tokenizer)]
    found = (vlm.tokenizer.convert_tokens_to_ids(token) for token in tokens if token is not None)
    return {int(each) for each in found if each is not None}
