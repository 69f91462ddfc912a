"""Stage two of a LLaVA: projector and LoRA, trained on the answer tokens."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel, LlamaModel, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from vlm_bridge.data.items import Item
from vlm_bridge.data.units import by_image
from vlm_bridge.reference.assemble import IMAGE_TOKEN, fold_standardisation, unfold_standardisation
from vlm_bridge.reference.lora import add_lora
from vlm_bridge.reference.recipe import Recipe
from vlm_bridge.training.fit import fit
from vlm_bridge.training.packing import IGNORED, LabelledIds, draw_images, labelled, pack, visible
from vlm_bridge.training.tower import image_pixels, move_shape, normalise


class _Packer:
    """Batches of several questions behind one image; each attends to the image and itself."""

    def __init__(self, items: Sequence[Item], processor: LlavaProcessor, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizer = processor.tokenizer
        chat = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "{q}"}]}],
            add_generation_prompt=True,
        )
        head, self.after_image = chat.split(IMAGE_TOKEN)
        self.head = self._encode(head)
        self.prefix = len(self.head) + recipe.vision_tokens
        self.clusters = by_image(items)
        self.pixels = image_pixels(self.clusters)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _question(self, item: Item) -> LabelledIds:
        answer = [*self._encode(item.answer or ""), self.tokenizer.eos_token_id]
        return labelled(self._encode(self.after_image.replace("{q}", item.question)), answer)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Pixels, question ids, labels, positions and mask of a step, from its number alone."""
        recipe = self.recipe
        rows = draw_images(len(self.clusters), recipe.adapt.batch, str(recipe.seed), step)
        draw = random.Random(f"{recipe.seed}/{step}")
        packed = []
        for cluster in (self.clusters[row] for row in rows):
            asked = draw.sample(cluster, min(recipe.questions_per_image, len(cluster)))
            packed.append([self._question(item) for item in asked])
        batch = pack(packed, self.prefix, self.tokenizer.eos_token_id)
        generator = torch.Generator().manual_seed(recipe.seed * 7_919 + step)
        pixels = self.pixels[rows]
        if recipe.tasks == ("easy-vqa",):
            pixels = move_shape(pixels, generator)
        return pixels, batch.ids, batch.labels, batch.places, visible(batch.blocks)[:, None]


def train_adapter(
    items: Sequence[Item],
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    tower: CLIPVisionModel,
    recipe: Recipe,
    checkpoint: Path,
    begun: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Train projector and LoRA (resumable); returns the parts that `install_parts` takes.

    The output of the tower is standardised per channel by statistics of the training images,
    which are folded into the projector's first layer at the end. Frozen linear weights are
    bfloat16, trained ones float32. The linear layers of `model` are wrapped and rounded. Training
    starts from projector and LoRA in `begun`, the parts of a model with the same tower, if given.
    """
    torch.manual_seed(recipe.seed)
    packer = _Packer(items, processor, recipe)
    features = _patch_features(tower, packer.pixels)
    mean, std = features.mean((0, 1)), features.std((0, 1))
    projector = model.model.multi_modal_projector
    goal = model.get_input_embeddings().weight.detach().std()
    _start_projector(projector, (features[:256] - mean) / std, goal)
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
            image = slice(len(packer.head), packer.prefix)
            states = _late_entry(recipe.entry_at(step), decoder, embeds, positions, mask, image)
            states = states[:, packer.prefix :]
            answers = labels != IGNORED
            logits = nn.functional.linear(states[answers].to(torch.bfloat16), head).float()
        total = nn.functional.cross_entropy(logits, labels[answers], reduction="sum")
        per_question: Tensor = total / (labels == packer.tokenizer.eos_token_id).sum()
        return per_question

    fit(parameters, loss_at, recipe.adapt, checkpoint, title="projector and LoRA")
    first = fold_standardisation(projector.linear_1, mean, std)
    parts: dict[str, Tensor] = dict(parameters)
    parts |= {"projector.linear_1.weight": first[0], "projector.linear_1.bias": first[1]}
    parts |= {f"tower.{name}": p for name, p in tower.state_dict().items()}
    return {name: p.detach() for name, p in parts.items()}


def _late_entry(
    entry: int, decoder: LlamaModel, embeds: Tensor, positions: Tensor, mask: Tensor, image: slice
) -> Tensor:
    """The decoder's states when the tokens `image` enter, as embeddings, at layer `entry`."""
    cos, sin = decoder.rotary_emb(embeds, positions)
    text = torch.ones(embeds.shape[1], dtype=torch.bool)
    text[image] = False
    states, early = embeds[:, text], mask[:, :, text][..., text]
    rotations = (cos[:, text], sin[:, text])
    for layer in decoder.layers[:entry]:
        states = layer(states, attention_mask=early, position_embeddings=rotations)
    states = torch.cat([states[:, : image.start], embeds[:, image], states[:, image.start :]], 1)
    for layer in decoder.layers[entry:]:
        states = layer(states, attention_mask=mask, position_embeddings=(cos, sin))
    last: Tensor = decoder.norm(states)
    return last


@torch.no_grad()
def _patch_features(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """(n, patches, width) in float32, without the class token, as in LLaVA."""
    chunks = [tower(pixel_values=normalise(part)).last_hidden_state for part in pixels.split(256)]
    return torch.cat([chunk[:, 1:].float() for chunk in chunks])


@torch.no_grad()
def _start_projector(projector: LlavaMultiModalProjector, features: Tensor, goal: Tensor) -> None:
    """Scale the last layer so that projected patches have the standard deviation `goal`."""
    projector.linear_2.weight.mul_(goal / projector(features).std())
    projector.linear_2.bias.zero_()
