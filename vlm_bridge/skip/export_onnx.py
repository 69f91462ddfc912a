"""Export a decoder with its cache, and an image encoder, as ONNX graphs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from estimators.extras import require
from vlm_bridge.errors import BridgeError, first_line
from vlm_bridge.model.given import given_model
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.files import new_folder, write_json
from vlm_bridge.skip.onnx_model import (
    DECODER,
    EMBED,
    FIRST,
    PAST,
    PRESENT,
    SETTINGS,
    VISION,
    OnnxModel,
    cache_names,
)

#: Families whose image encoder takes pixels alone, all images of one size.
_PIXELS_ALONE = ("llava", "smolvlm", "idefics3")
#: Largest difference of logits, over their largest size, that rounding explains.
_ROUNDING = 1e-3
_AUTO: Any = torch.export.Dim.AUTO
Past = list[tuple[Tensor, Tensor]]


def export_onnx(model: VLM | str | Path, folder: str | Path) -> Path:
    """Write `embed_tokens.onnx`, `decoder_model.onnx`, `vision_encoder.onnx` and the processor.

    The decoder takes `inputs_embeds` (batch, length, width), `attention_mask` (batch, past +
    length), `position_ids` (batch, length) and for every layer `past_key_values.L.key` and
    `.value` (batch, heads, past, head width), where past may be 0; it gives `logits` (batch,
    length, vocabulary) and `present.L.key` and `.value`. The vision encoder, with its connector,
    takes one image. Weights are float32 in files `.onnx.data`. Before the folder appears, every
    graph has run in ONNX Runtime, with other sizes than it was traced with, and has given the
    numbers of the model. `OnnxModel` runs it.

    Args:
        model: a model, or its folder or name, such as what `prune` returned.
        folder: a folder that does not exist yet, or is empty; it is returned.

    Raises:
        BridgeError: layers without full attention, positions of several axes, features added within
            the decoder, an encoder-decoder, an image encoder that takes more than pixels, a graph
            that gives other numbers than the model, or the folder cannot be written.
        MissingExtra: a package of the extra `onnx` is not installed.

    Example:
        >>> export_onnx("out/smaller", "out/smaller-onnx")  # doctest: +SKIP
        PosixPath('out/smaller-onnx')
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require("export_onnx", package, "onnx")
    vlm = given_model(model)
    check_onnx(vlm)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BridgeError(f"{folder} exists and is no empty folder; name a new or an empty one")
    with new_folder(folder) as partial, torch.no_grad():
        _write_graphs(vlm, partial)
        write_json(partial / SETTINGS, _settings(vlm))
        if vlm.processor is not None:
            vlm.processor.save_pretrained(partial)
        _compare(vlm, OnnxModel(partial))
    return folder


def check_onnx(vlm: VLM) -> None:
    """Refuse a model whose decoder asks for more than embeddings, one mask and one position."""
    layout, name = vlm.layout, type(vlm.model).__name__
    others = sorted({*layout.attention_types} - {"full_attention"})
    why = ""
    if layout.encoder_decoder:
        why = "it has an encoder and a decoder"
    elif others:
        why = f"some of its layers are {' and '.join(others)}"
    elif layout.deepstack_layers:
        why = "vision features are added between its layers"
    elif hasattr(layout.base, "get_rope_index"):
        why = "its positions have several axes (M-RoPE)"
    elif layout.audio_ids or (layout.video_ids and not layout.image_ids):
        why = f"it takes {layout.modality}"
    elif layout.image_ids and vlm.model.config.model_type not in _PIXELS_ALONE:
        why = f"its image encoder may take more than pixels; known are {', '.join(_PIXELS_ALONE)}"
    elif vlm.model.dtype != torch.float32:
        why = f"its weights are {vlm.model.dtype}; load it with dtype='float32'"
    if why:
        raise BridgeError(f"export_onnx cannot write {vlm.name} ({name}): {why}")


class _Decoder(nn.Module):
    """The decoder and its head, with the cache as plain tensors."""

    def __init__(self, vlm: VLM) -> None:
        super().__init__()
        self.decoder: Any = vlm.layout.decoder
        self.head: Any = vlm.model.get_output_embeddings()

    def forward(
        self, embeds: Tensor, attention_mask: Tensor, positions: Tensor, past: Past
    ) -> tuple[Tensor, Past]:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        total, new = attention_mask.shape[1], embeds.shape[1]
        query = torch.arange(new) + (total - new)
        causal = torch.arange(total)[None] <= query[:, None]
        seen = causal[None] & attention_mask[:, None].bool()
        found = self.decoder(
            inputs_embeds=embeds,
            attention_mask=torch.where(seen[:, None], 0.0, torch.finfo(torch.float32).min),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        return self.head(found.last_hidden_state), [(c.keys, c.values) for c in cache.layers]


class _Vision(nn.Module):
    """The image encoder and its connector, for one image."""

    def __init__(self, vlm: VLM) -> None:
        super().__init__()
        self.base: Any = vlm.layout.base

    def forward(self, pixel_values: Tensor) -> Tensor:
        found = self.base.get_image_features(pixel_values=pixel_values).pooler_output
        return torch.stack(list(found))


def _write_graphs(vlm: VLM, folder: Path) -> None:
    size = _settings(vlm)
    layers, heads, width = size["layers"], size["key_value_heads"], size["head_width"]
    ids = torch.zeros(2, 4, dtype=torch.long)
    embed: Any = vlm.model.get_input_embeddings()
    _export(
        embed, (ids,), folder / EMBED, ["input_ids"], ["inputs_embeds"], ({0: _AUTO, 1: _AUTO},)
    )
    # Tensors of their own: an export takes one tensor, given twice, for one input.
    past = [
        (torch.zeros(2, heads, 3, width), torch.zeros(2, heads, 3, width)) for _ in range(layers)
    ]
    mask = torch.ones(2, 7, dtype=torch.long)
    inputs = (embed(ids), mask, mask.cumsum(1)[:, 3:] - 1, past)
    cached = ({0: _AUTO, 2: _AUTO}, {0: _AUTO, 2: _AUTO})
    _export(
        _Decoder(vlm),
        inputs,
        folder / DECODER,
        [*FIRST, *cache_names(PAST, layers)],
        ["logits", *cache_names(PRESENT, layers)],
        (*[{0: _AUTO, 1: _AUTO}] * 3, [cached] * layers),
    )
    if vlm.layout.image_ids:
        pixels = _pixels(vlm)
        _export(_Vision(vlm), (pixels,), folder / VISION, ["pixel_values"], ["features"], None)


def _export(
    module: nn.Module, given: Any, path: Path, names: list[str], outputs: list[str], shapes: Any
) -> None:
    """One graph, its weights beside it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            torch.onnx.export(
                module.eval(),
                given,
                path,
                dynamo=True,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=shapes,
                external_data=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise BridgeError(f"torch cannot export {path.name}: {first_line(error)}") from error


def _pixels(vlm: VLM) -> Tensor:
    """The pixels of one image, as the processor makes them, of a seeded random image."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    nested: Any = [[noise]] if vlm.model.config.model_type != "llava" else [noise]
    found = vlm.processor.image_processor(nested, return_tensors="pt")
    pixels: Tensor = torch.as_tensor(found["pixel_values"])
    return pixels


def _settings(vlm: VLM) -> dict[str, Any]:
    """What a greedy loop must know beside the graphs."""
    text, ends = vlm.layout.text_config, vlm.model.generation_config.eos_token_id
    end_ids = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    padding = vlm.model.generation_config.pad_token_id
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return {
        "source": vlm.name,
        "fingerprint": vlm.fingerprint,
        "layers": vlm.layout.n_layers,
        "key_value_heads": getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        "head_width": width,
        "image_ids": list(vlm.layout.image_ids),
        "end_ids": end_ids,
        "padding_id": (end_ids or [0])[0] if padding is None else padding,
    }


def _compare(vlm: VLM, found: OnnxModel) -> None:
    """Run the graphs on prompts of one and of five tokens and refuse other numbers."""
    draw = torch.Generator().manual_seed(0)
    size, decoder = found.settings, _Decoder(vlm)
    shape = (1, size["key_value_heads"], 0, size["head_width"])
    past: Any = [(torch.zeros(shape), torch.zeros(shape))] * size["layers"]
    cached = [each.numpy() for pair in past for each in pair]
    mask = torch.zeros(1, 0, dtype=torch.long)
    most = int(vlm.layout.text_config.vocab_size)
    for length in (5, 1):
        ids = torch.randint(most, (1, length), generator=draw)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        embeds = vlm.model.get_input_embeddings()(ids)
        expected, past = decoder(embeds, mask, mask.cumsum(1)[:, -length:] - 1, past)
        logits, cached = found.logits(embeds.numpy(), mask.numpy(), cached)
        _same(DECODER, logits, expected)
    text = torch.tensor([[i for i in range(most) if i not in size["image_ids"]][:3]])
    _same(EMBED, found.embeds(text.numpy()), vlm.model.get_input_embeddings()(text))
    if vlm.layout.image_ids:
        pixels = _pixels(vlm)
        _same(VISION, found.image_features(pixels.numpy()), _Vision(vlm)(pixels))


def _same(name: str, found: Any, expected: Tensor) -> None:
    """Refuse numbers that differ by more than rounding."""
    size = float(expected.abs().max())
    worst = float(np.abs(found - expected.numpy()).max())
    if not worst <= _ROUNDING * size:
        raise BridgeError(
            f"{name} gives other numbers in ONNX Runtime than the model: they differ by up to "
            f"{worst:.2g} where the largest is {size:.2g}"
        )
