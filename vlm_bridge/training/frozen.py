"""What a frozen tower sees in photos or hears in recordings, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from vlm_bridge.data.items import Item
from vlm_bridge.model.prompts import collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.runtime.progress import track

_IN_BATCH = 50  #: photos in a batch of the tower
_SOUNDS = 4  #: recordings in a batch: each takes as long as the longest that the tower hears


@dataclass(frozen=True)
class Features:
    """Tokens of several files, one file after the other."""

    tokens: Tensor  # (tokens of all files, channels) float16
    lengths: Tensor  # (files,) number of tokens of each

    def each(self) -> list[Tensor]:
        """(tokens, channels) of every file, in float32."""
        return list(torch.split(self.tokens.float(), self.lengths.tolist()))


def tower_features(vlm: VLM, items: Sequence[Item]) -> Features:
    """What the tower makes of the photo or recording of each item, before the connector."""
    hears = "audio" in items[0].kinds
    size = _SOUNDS if hears else _IN_BATCH
    found: list[Tensor] = []
    with track("features", len(items)) as advance:
        for first in range(0, len(items), size):
            batch = items[first : first + size]
            found += _heard(vlm, batch) if hears else _seen(vlm, batch)
            advance(len(batch))
    lengths = torch.tensor([len(tokens) for tokens in found])
    return Features(torch.cat(found).to(torch.float16), lengths)


def cached_features(vlm: VLM, items: Sequence[Item], path: Path) -> Features:
    """The same from a file, which is written if it is not there."""
    if not path.is_file():
        made = tower_features(vlm, items)
        write_bytes(path, save({"tokens": made.tokens, "lengths": made.lengths}))
    return Features(**load_file(path))


@torch.no_grad()
def _seen(vlm: VLM, items: Sequence[Item]) -> list[Tensor]:
    """(tokens, channels) of every photo."""
    photos = [item.open() for item in items]
    pixels = vlm.processor.image_processor(photos, return_tensors="pt")["pixel_values"]
    tower: Any = vlm.layout.base.vision_tower
    return list(tower(pixels).last_hidden_state)


@torch.no_grad()
def _heard(vlm: VLM, items: Sequence[Item]) -> list[Tensor]:
    """(tokens, channels) of every recording; the tower attends to the recording alone."""
    inputs = collate(vlm, items, range(len(items))).inputs
    tower: Any = vlm.layout.base.audio_tower
    frames = inputs["feature_attention_mask"].sum(-1)
    states, tokens = tower._get_feat_extract_output_lengths(frames)
    places = torch.arange(tower.config.max_source_positions)
    mask = create_bidirectional_mask(
        config=tower.config,
        inputs_embeds=torch.zeros(len(items), len(places), 1),
        attention_mask=(places < states[:, None]).long(),
    )
    heard = tower(inputs["input_features"], attention_mask=mask).last_hidden_state
    return [row[:count] for row, count in zip(heard, tokens.tolist(), strict=True)]
