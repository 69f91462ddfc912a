"""Run what `export_onnx` wrote, in ONNX Runtime and without torch: whole greedy answers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.extras import require
from vlm_bridge.errors import BridgeError, got
from vlm_bridge.runtime.files import read_json

Array = NDArray[Any]
#: Graphs of an exported folder: ids to embeddings, embeddings to logits, pixels to features.
EMBED, DECODER, VISION = "embed_tokens.onnx", "decoder_model.onnx", "vision_encoder.onnx"
#: Settings of an exported folder that its graphs do not hold.
SETTINGS = "onnx_settings.json"
#: Inputs of the decoder before its cache, and what its cache is called on both sides.
FIRST = ("inputs_embeds", "attention_mask", "position_ids")
PAST, PRESENT = "past_key_values", "present"


def cache_names(side: str, layers: int) -> list[str]:
    """Names of the keys and values of every layer on one side, `PAST` or `PRESENT`.

    Example:
        >>> cache_names("present", 1)
        ['present.0.key', 'present.0.value']
    """
    return [f"{side}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


class OnnxModel:
    """The graphs of a folder that `export_onnx` wrote, with a greedy loop around them.

    Args:
        folder: the folder.

    Raises:
        BridgeError: it is no such folder.
        MissingExtra: onnxruntime is not installed.

    Example:
        >>> OnnxModel("no/such/folder")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: no/such/folder is no folder of export_onnx: ...
    """

    def __init__(self, folder: str | Path) -> None:
        require("OnnxModel", "onnxruntime", "onnx")
        self.folder = Path(folder)
        missing = [n for n in (EMBED, DECODER, SETTINGS) if not (self.folder / n).is_file()]
        if missing:
            raise BridgeError(
                f"{folder} is no folder of export_onnx: it has no {missing[0]}; write one with "
                "vb.export_onnx(model, folder)"
            )
        self.settings: dict[str, Any] = read_json(self.folder / SETTINGS, "the settings of a graph")
        runtime = import_module("onnxruntime")
        names = [EMBED, DECODER, *([VISION] if (self.folder / VISION).is_file() else [])]
        self._sessions = {
            name: runtime.InferenceSession(
                str(self.folder / name), providers=runtime.get_available_providers()
            )
            for name in names
        }

    def embeds(self, input_ids: Array, pixel_values: Array | None = None) -> Array:
        """(batch, length, width): word embeddings, with image features in their places.

        Raises:
            BridgeError: images without a vision encoder, or of another number of tokens than the
                ids have places for.
        """
        (found,) = self._run(EMBED, {"input_ids": input_ids})
        embeds: Array = found
        places = np.isin(input_ids, self.settings["image_ids"])
        if pixel_values is None and not places.any():
            return embeds
        if pixel_values is None or VISION not in self._sessions:
            which = "pixel_values" if VISION in self._sessions else VISION
            raise BridgeError(f"the prompt has an image, and {which} is missing; give both")
        features = self.image_features(pixel_values).reshape(-1, embeds.shape[-1])
        if len(features) != places.sum():
            raise BridgeError(
                f"the images have {len(features)} tokens and the prompts {places.sum()} places for "
                "them; make both with the processor of the folder"
            )
        embeds[places] = features
        return embeds

    def image_features(self, pixel_values: Array) -> Array:
        """(images, tokens, width): what the vision encoder and its connector make of images."""
        shape = self._sessions[VISION].get_inputs()[0].shape
        if pixel_values.shape[-3:] != tuple(shape[-3:]):
            raise BridgeError(
                f"images are (..., {', '.join(map(str, shape[-3:]))}), got an array of shape "
                f"{pixel_values.shape}; make it with the processor of the folder"
            )
        each = pixel_values.reshape(-1, *shape)
        return np.concatenate([self._run(VISION, {"pixel_values": one})[0] for one in each])

    def logits(
        self, embeds: Array, attention_mask: Array, past: list[Array]
    ) -> tuple[Array, list[Array]]:
        """Logits (batch, length, vocabulary) of new positions, and the longer cache.

        `attention_mask` is (batch, past and new) and 0 on padding; `past` are the keys and values
        of every layer (batch, heads, past, head width), as the last call gave them.
        """
        positions = np.maximum(attention_mask.cumsum(1) - 1, 0)[:, -embeds.shape[1] :]
        given = dict(zip(FIRST, (embeds, attention_mask, positions), strict=True))
        given |= dict(zip(cache_names(PAST, len(past) // 2), past, strict=True))
        logits, *present = self._run(DECODER, given)
        return logits, present

    def greedy(self, inputs: Mapping[str, Any], max_new_tokens: int = 32) -> Array:
        """(batch, new tokens): the greedy answers, with the padding id behind their ends.

        Args:
            inputs: `input_ids` and `attention_mask` (batch, length), padded on the left, and for
                images `pixel_values`, as the processor of the folder makes them.
            max_new_tokens: tokens of an answer at most.

        Raises:
            BridgeError: not a positive number of tokens, no `input_ids`, prompts padded on the
                right, or the errors of `embeds`.
        """
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int):
            raise BridgeError(f"max_new_tokens is a positive number, got {got(max_new_tokens)}")
        if max_new_tokens < 1:
            raise BridgeError(f"max_new_tokens is a positive number, got {max_new_tokens}")
        if "input_ids" not in inputs:
            raise BridgeError(
                f"the inputs have no input_ids, only {', '.join(inputs) or 'nothing'}"
            )
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        ids = arrays["input_ids"].astype(np.int64)
        mask = arrays.get("attention_mask", np.ones_like(ids)).astype(np.int64)
        if not mask[:, -1].all():
            raise BridgeError(
                "prompts are padded on the left, and the attention_mask of some ends with 0; pass "
                "padding_side='left' to the processor"
            )
        embeds = self.embeds(ids, arrays.get("pixel_values"))
        heads, width = self.settings["key_value_heads"], self.settings["head_width"]
        past = [np.zeros((len(ids), heads, 0, width), np.float32)] * (2 * self.settings["layers"])
        ended, said = np.zeros(len(ids), bool), []
        for _ in range(max_new_tokens):
            logits, past = self.logits(embeds, mask, past)
            token = np.where(ended, self.settings["padding_id"], logits[:, -1].argmax(-1))
            said.append(token)
            ended |= np.isin(token, self.settings["end_ids"])
            if ended.all():
                break
            embeds = self._run(EMBED, {"input_ids": token[:, None]})[0]
            mask = np.concatenate([mask, np.ones_like(mask[:, :1])], axis=1)
        return np.stack(said, axis=1)

    def _run(self, name: str, given: Mapping[str, Array]) -> list[Array]:
        found: list[Array] = self._sessions[name].run(None, dict(given))
        return found
