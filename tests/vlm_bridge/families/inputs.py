"""Prompts as letters: `t` is a word, `I` an image; pixels as each family wants them."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.vlm_bridge.families.configs import AUDIO, IMAGE, PAD, SIDE, VOCABULARY
from tests.vlm_bridge.families.table import Family
from vlm_bridge.model.vlm import VLM

#: situation -> prompts of a batch, shortest ones left-padded.
SITUATIONS = {
    "single": ("ttIttttt",),
    "padded": ("ttIttttt", "Itttttttt", "tIt"),
    "ragged": ("ttIttItt", "tttttttt", "It"),
    "image first": ("Itt", "Itt"),
}
#: Inputs with a column for every token of a chunk.
BY_TOKEN = ("input_ids", "token_type_ids", "mm_token_type_ids")
_FIRST_WORD = 8


def batch(family: Family, prompts: tuple[str, ...], *, seed: int = 0) -> dict[str, Tensor]:
    """Left-padded model inputs for prompts of `t` and `I`."""
    draw = torch.Generator().manual_seed(seed)
    placeholder = IMAGE if family.audio is None else AUDIO
    rows = []
    for prompt in prompts:
        row: list[int] = []
        for letter in prompt:
            word = int(torch.randint(_FIRST_WORD, VOCABULARY, (1,), generator=draw))
            row += [placeholder] * family.tokens if letter == "I" else [word]
        rows.append(row)
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    counts = [prompt.count("I") for prompt in prompts]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        **family.types(ids),
        **_pixels(family, counts, torch.Generator().manual_seed(seed)),
    }


def _pixels(family: Family, counts: list[int], draw: torch.Generator) -> dict[str, Tensor]:
    total = sum(counts)
    if total == 0:
        return {}
    if family.audio is not None:
        return {
            "input_features": _draws(total, family.audio, draw),
            "feature_attention_mask": torch.ones(total, family.audio[1], dtype=torch.long),
        }
    return family.pixels(_draws(total, (3, SIDE, SIDE), draw), counts)


def _draws(count: int, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """One by one, so that the first image of every batch is the same."""
    return torch.stack([torch.randn(shape, generator=draw) for _ in range(count)])


def chunks(
    vlm: VLM, inputs: dict[str, Tensor], split: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inputs cut behind `split` tokens, all pixels in the first part.

    The caller puts the cut behind every image. Without padding no mask is given; with it,
    that of the second part covers both, as in generation, and so do the positions of Qwen
    models, which cannot count them across a cut.
    """
    padded = not bool(inputs["attention_mask"].all())
    first, second = {}, {}
    for name, value in inputs.items():
        if name == "attention_mask":
            if padded:
                first[name], second[name] = value[:, :split], value
        elif name in BY_TOKEN:
            first[name], second[name] = value[:, :split], value[:, split:]
        else:
            first[name] = value
    if padded and hasattr(vlm.layout.base, "get_rope_index"):
        known = {name: value for name, value in inputs.items() if name != "pixel_values"}
        positions, _ = vlm.layout.base.get_rope_index(**known)
        first["position_ids"], second["position_ids"] = positions.split_with_sizes(
            [split, positions.shape[-1] - split], dim=-1
        )
    return first, second
