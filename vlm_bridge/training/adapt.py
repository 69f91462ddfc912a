"""Stage two: projector and LoRA, trained through the language model on the answer tokens."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionModel,
    LlamaModel,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from vlm_bridge.data import Item
from vlm_bridge.reference.assemble import (
    IMAGE_TOKEN,
    fold_standardisation,
    unfold_standardisation,
)
from vlm_bridge.reference.lora import add_lora
from vlm_bridge.reference.recipe import Recipe
from vlm_bridge.training.fit import fit
from vlm_bridge.training.tower import move_shape, normalise

_IGNORE = -100


class _Packer:
    """Several questions behind one image: each sees the image and itself, positions restart."""

    def __init__(self, items: Sequence[Item], processor: LlavaProcessor, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizer = processor.tokenizer
        chat = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "{q}"}]}],
            add_generation_prompt=True,
        )
        head, tail = chat.split(IMAGE_TOKEN)
        self.head = self._encode(head)
        self.tail = tail
        self.prefix = len(self.head) + recipe.vision_tokens
        clusters: dict[str, list[Item]] = {}
        for item in items:
            clusters.setdefault(item.cluster, []).append(item)
        self.clusters = list(clusters.values())
        self.pixels = torch.from_numpy(
            np.stack([np.asarray(group[0].open()) for group in self.clusters])
        ).permute(0, 3, 1, 2)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def question(self, item: Item) -> tuple[list[int], list[int]]:
        """Token ids behind the image and their labels; only answer and end are labelled."""
        asked = self._encode(self.tail.replace("{q}", item.question))
        answer = [*self._encode(item.answer or ""), self.tokenizer.eos_token_id]
        labels = [_IGNORE] * (len(asked) - 1) + answer
        return asked + answer[:-1], labels

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Pixels, question ids, labels, positions and mask of one step, from its number."""
        recipe = self.recipe
        per_epoch = len(self.clusters) // recipe.adapt.batch
        epoch, place = divmod(step, per_epoch)
        order = random.Random(f"{recipe.seed}/{epoch}").sample(
            range(len(self.clusters)), len(self.clusters)
        )
        rows = order[place * recipe.adapt.batch : (place + 1) * recipe.adapt.batch]
        draw = random.Random(f"{recipe.seed}/{step}")
        packed = []
        for row in rows:
            group = self.clusters[row]
            picked = draw.sample(group, min(recipe.questions_per_image, len(group)))
            packed.append([self.question(item) for item in picked])
        length = self.prefix + max(sum(len(ids) for ids, _ in each) for each in packed)
        width = length - self.prefix
        ids = torch.full((len(rows), width), self.tokenizer.eos_token_id)
        labels = torch.full((len(rows), width), _IGNORE)
        positions = torch.zeros(len(rows), length, dtype=torch.long)
        positions[:, : self.prefix] = torch.arange(self.prefix)
        block = torch.full((len(rows), length), -1)  # 0: prefix, k: question k, -1: padding
        block[:, : self.prefix] = 0
        for i, each in enumerate(packed):
            at = 0
            for number, (tokens, targets) in enumerate(each, start=1):
                span = slice(at, at + len(tokens))
                ids[i, span] = torch.tensor(tokens)
                labels[i, span] = torch.tensor(targets)
                at += len(tokens)
                whole = slice(self.prefix + span.start, self.prefix + span.stop)
                positions[i, whole] = torch.arange(self.prefix, self.prefix + len(tokens))
                block[i, whole] = number
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        same = (block[:, :, None] == block[:, None, :]) | (block[:, None, :] == 0)
        mask = (causal & same)[:, None]
        generator = torch.Generator().manual_seed(recipe.seed * 7_919 + step)
        return move_shape(self.pixels[rows], generator), ids, labels, positions, mask


def train_adapter(
    items: Sequence[Item],
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    tower: CLIPVisionModel,
    recipe: Recipe,
    checkpoint: Path,
    begun: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Train projector and LoRA (resumable); returns the parts `install_parts` reads.

    The tower's output is standardised per channel by statistics of the training images;
    at the end that is folded into the projector's first layer, so the result is LLaVA's
    own projector. Frozen linear weights are held in bfloat16, everything trained in float32.
    `model` is consumed: its linear layers are wrapped and rounded. `begun` holds the parts
    of a trained model with the same tower, whose projector and LoRA are where training starts.
    """
    torch.manual_seed(recipe.seed)
    packer = _Packer(items, processor, recipe)
    features = _patch_features(tower, packer.pixels)
    mean, std = features.mean((0, 1)), features.std((0, 1))
    projector = model.model.multi_modal_projector
    _start_projector(projector, (features[:256] - mean) / std, model)
    decoder = model.model.language_model
    model.requires_grad_(False)
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    head = model.lm_head.weight.detach().to(torch.bfloat16)
    lora = add_lora(decoder.layers, recipe.lora_targets, recipe.lora_rank, recipe.lora_alpha)
    projector.requires_grad_(True)
    parameters = {f"lora.{name}": p for name, p in lora.items()}
    parameters |= {f"projector.{name}": p for name, p in projector.named_parameters()}
    if begun is not None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(begun[name])
            first = unfold_standardisation(projector.linear_1, mean, std)
            projector.linear_1.weight.copy_(first[0])
            projector.linear_1.bias.copy_(first[1])
    table = decoder.embed_tokens
    start = table(torch.tensor(packer.head))

    def loss_at(step: int) -> Tensor:
        pixels, ids, labels, positions, mask = packer.batch(step)
        patches = (_patch_features(tower, pixels) - mean) / std
        with torch.autocast("cpu", torch.bfloat16):
            vision = projector(patches).float()
            embeds = torch.cat([start.expand(len(ids), -1, -1), vision, table(ids)], dim=1)
            seen = slice(len(packer.head), packer.prefix)
            states = _entering_at(recipe.entry_at(step), decoder, embeds, positions, mask, seen)
            states = states[:, packer.prefix :]
            wanted = labels != _IGNORE
            logits = nn.functional.linear(states[wanted].to(torch.bfloat16), head).float()
        total = nn.functional.cross_entropy(logits, labels[wanted], reduction="sum")
        per_question: Tensor = total / (labels == packer.tokenizer.eos_token_id).sum()
        return per_question

    fit(parameters, loss_at, recipe.adapt, checkpoint, title="projector and LoRA")
    first = fold_standardisation(projector.linear_1, mean, std)
    parts = {f"lora.{name}": p.detach() for name, p in lora.items()}
    parts |= {f"projector.{name}": p.detach() for name, p in projector.named_parameters()}
    parts |= {"projector.linear_1.weight": first[0], "projector.linear_1.bias": first[1]}
    parts |= {f"tower.{name}": p for name, p in tower.state_dict().items()}
    return {name: p.detach() for name, p in parts.items()}


def _entering_at(
    entry: int, decoder: LlamaModel, embeds: Tensor, positions: Tensor, mask: Tensor, seen: slice
) -> Tensor:
    """The decoder's states where the vision tokens `seen` join at layer `entry`.

    Layers below it run on the other tokens alone, at the positions they have; vision keeps
    its embedding until then. With `entry` 0 this is the decoder itself.
    """
    cos, sin = decoder.rotary_emb(embeds, positions)
    text = torch.ones(embeds.shape[1], dtype=torch.bool)
    text[seen] = False
    states, early = embeds[:, text], mask[:, :, text][..., text]
    for layer in decoder.layers[:entry]:
        states = layer(
            states, attention_mask=early, position_embeddings=(cos[:, text], sin[:, text])
        )
    states = torch.cat([states[:, : seen.start], embeds[:, seen], states[:, seen.start :]], dim=1)
    for layer in decoder.layers[entry:]:
        states = layer(states, attention_mask=mask, position_embeddings=(cos, sin))
    last: Tensor = decoder.norm(states)
    return last


@torch.no_grad()
def _patch_features(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """(n, patches, width) in float32; the class token is dropped, as LLaVA does."""
    chunks = [
        tower(pixel_values=normalise(part)).last_hidden_state[:, 1:].float()
        for part in pixels.split(256)
    ]
    return torch.cat(chunks)


@torch.no_grad()
def _start_projector(
    projector: LlavaMultiModalProjector, features: Tensor, model: LlavaForConditionalGeneration
) -> None:
    """Scale the last layer so that projected patches are as large as token embeddings."""
    target = model.get_input_embeddings().weight.std()
    projector.linear_2.weight.mul_(target / projector(features).std())
    projector.linear_2.bias.zero_()
