"""Every way to skip, written by hand for a LLaVA with a Llama decoder: what it should cost.

Slices and indexing without the bridge, without cache, for prompts of equal layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from benchmarks._llava import IMAGE
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan


class ByHand:
    """Logits (batch, 1, vocabulary) of the last token under a plan of one mode."""

    def __init__(self, vlm: VLM, plan: SkipPlan) -> None:
        model: Any = vlm.model
        self.model, self.plan = model, plan
        self.base: Any = vlm.layout.base
        self.decoder: Any = vlm.layout.decoder

    @torch.no_grad()
    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        """Run the model."""
        vision = inputs["input_ids"] == IMAGE
        states = self.model.get_input_embeddings()(inputs["input_ids"])
        features = torch.cat(
            list(self.base.get_image_features(inputs["pixel_values"]).pooler_output)
        )
        states = states.masked_scatter(vision[..., None].expand_as(states), features)
        length = torch.arange(states.shape[1], device=states.device)[None]
        rotary = self.decoder.rotary_emb(states, length)
        text = (~vision[0]).nonzero()[:, 0][None].expand(len(states), -1)
        run = getattr(self, f"_{self.plan.mode}", self._present)
        states = run(states, rotary, text, vision[0])
        logits: Tensor = self.model.lm_head(self.decoder.norm(states[:, -1:]))
        return logits

    def _block(self, states: Tensor, rotary: Any, *_: Tensor) -> Tensor:
        for number, layer in enumerate(self.decoder.layers):
            if number not in self.plan.layers:
                states = layer(states, position_embeddings=rotary)
        return states

    def _freeze(self, states: Tensor, rotary: Any, text: Tensor, _: Tensor) -> Tensor:
        part, mask = _rotary(rotary, text), _seen(states, text)
        for number, layer in enumerate(self.decoder.layers):
            if number not in self.plan.layers:
                states = layer(states, position_embeddings=rotary)
                continue
            rows = states[:, text[0]] + _of_text(layer, states, rotary, part, text, mask)
            rows = rows + layer.mlp(layer.post_attention_layernorm(rows))
            states = states.index_copy(1, text[0], rows)
        return states

    def _vision_attention(self, states: Tensor, rotary: Any, text: Tensor, _: Tensor) -> Tensor:
        part, mask = _rotary(rotary, text), _seen(states, text)
        for number, layer in enumerate(self.decoder.layers):
            if number not in self.plan.layers:
                states = layer(states, position_embeddings=rotary)
                continue
            update = _of_text(layer, states, rotary, part, text, mask)
            states = states.index_add(1, text[0], update)
            states = states + layer.mlp(layer.post_attention_layernorm(states))
        return states

    def _vision_mlp(self, states: Tensor, rotary: Any, text: Tensor, _: Tensor) -> Tensor:
        for number, layer in enumerate(self.decoder.layers):
            if number not in self.plan.layers:
                states = layer(states, position_embeddings=rotary)
                continue
            states = states + layer.self_attn(layer.input_layernorm(states), rotary, None)[0]
            rows = layer.post_attention_layernorm(states[:, text[0]])
            states = states.index_add(1, text[0], layer.mlp(rows))
        return states

    def _present(self, states: Tensor, rotary: Any, text: Tensor, _: Tensor) -> Tensor:
        """Early exit, late entry and band: vision is present between two depths."""
        first, part = self.plan.entry or 0, _rotary(rotary, text)
        end = len(self.decoder.layers) if self.plan.exit is None else self.plan.exit
        rows = states[:, text[0]]
        for layer in self.decoder.layers[:first]:
            rows = layer(rows, position_embeddings=part)
        if end > first:
            states = states.index_copy(1, text[0], rows)
            for layer in self.decoder.layers[first:end]:
                states = layer(states, position_embeddings=rotary)
            rows = states[:, text[0]]
        for layer in self.decoder.layers[end:]:
            rows = layer(rows, position_embeddings=part)
        return rows

    def _sublayer(self, states: Tensor, rotary: Any, *_: Tensor) -> Tensor:
        for number, layer in enumerate(self.decoder.layers):
            if number not in self.plan.attention:
                normed = layer.input_layernorm(states)
                states = states + layer.self_attn(normed, rotary, None)[0]
            if number not in self.plan.mlp:
                states = states + layer.mlp(layer.post_attention_layernorm(states))
        return states

    def _token_pruning(self, states: Tensor, rotary: Any, text: Tensor, vision: Tensor) -> Tensor:
        after, keep = int(self.plan.after or 0), float(self.plan.keep or 0)
        for layer in self.decoder.layers[: after - 1]:
            states = layer(states, position_embeddings=rotary)
        states, scores = _scored(self.decoder.layers[after - 1], states, rotary)
        best = scores.masked_fill(~vision, -1).topk(round(int(vision.sum()) * keep)).indices
        rows = torch.cat([best, text], dim=1).sort(dim=1).values
        states = states.gather(1, rows[..., None].expand(*rows.shape, states.shape[-1]))
        rotary = _rotary(rotary, rows)
        for layer in self.decoder.layers[after:]:
            states = layer(states, position_embeddings=rotary)
        return states

    def _progressive_pruning(
        self, states: Tensor, rotary: Any, text: Tensor, vision: Tensor
    ) -> Tensor:
        """PyramidDrop: at each depth the best of the vision tokens left; HiDrop: between two."""
        batch, total, done = len(states), int(vision.sum()), int(self.plan.entry or 0)
        end = len(self.decoder.layers) if self.plan.exit is None else self.plan.exit
        alone = _rotary(rotary, text)
        if done:
            rows = states[:, text[0]]
            for layer in self.decoder.layers[:done]:
                rows = layer(rows, position_embeddings=alone)
            states = states.index_copy(1, text[0], rows)
        left, rotary = vision.expand(batch, -1), [part.expand(batch, -1, -1) for part in rotary]
        for after, keep in self.plan.stages:
            for layer in self.decoder.layers[done : after - 1]:
                states = layer(states, position_embeddings=rotary)
            states, scores = _scored(self.decoder.layers[after - 1], states, rotary)
            best = scores.masked_fill(~left, -1).topk(round(total * keep)).indices
            words = (~left).nonzero()[:, 1].view(batch, -1)
            rows = torch.cat([best, words], dim=1).sort(dim=1).values
            left = left.gather(1, rows)
            states, *rotary = (
                part.gather(1, rows[..., None].expand(*rows.shape, part.shape[-1]))
                for part in (states, *rotary)
            )
            done = after
        for layer in self.decoder.layers[done:end]:
            states = layer(states, position_embeddings=rotary)
        if end < len(self.decoder.layers):
            words = (~left).nonzero()[:, 1].view(batch, -1)
            states = states.gather(1, words[..., None].expand(*words.shape, states.shape[-1]))
            for layer in self.decoder.layers[end:]:
                states = layer(states, position_embeddings=alone)
        return states


def _scored(layer: Any, states: Tensor, rotary: Any) -> tuple[Tensor, Tensor]:
    """The layer's output, and (batch, t) attention of the last token, mean over heads."""
    attention, normed = layer.self_attn, layer.input_layernorm(states)
    query, key = _heads(attention, "q_proj", normed), _heads(attention, "k_proj", normed)
    value = _heads(attention, "v_proj", normed)
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    update = sdpa(query, key, value, is_causal=True, scale=attention.scaling)
    scores = (query[:, :, -1:] @ key.transpose(2, 3) * attention.scaling).softmax(-1).mean((1, 2))
    states = states + attention.o_proj(update.transpose(1, 2).flatten(2))
    return states + layer.mlp(layer.post_attention_layernorm(states)), scores


def _seen(states: Tensor, text: Tensor) -> Tensor:
    """Causal mask of the text rows as queries on all keys."""
    places = torch.arange(states.shape[1], device=states.device)
    seen = (places <= text[0][:, None])[None, None]
    return torch.where(seen, 0.0, torch.finfo(states.dtype).min).to(states.dtype)


def _of_text(
    layer: Any, states: Tensor, rotary: Any, part: Any, text: Tensor, mask: Tensor
) -> Tensor:
    """The attention's update of the text rows, which see the keys of all rows."""
    normed, attention = layer.input_layernorm(states), layer.self_attn
    key, value = _heads(attention, "k_proj", normed), _heads(attention, "v_proj", normed)
    query = _heads(attention, "q_proj", normed[:, text[0]])
    key = apply_rotary_pos_emb(key[:, :1], key, *rotary)[1]
    query = apply_rotary_pos_emb(query, query[:, :1], *part)[0]
    update = sdpa(query, key, value, attn_mask=mask, scale=attention.scaling)
    projected: Tensor = attention.o_proj(update.transpose(1, 2).flatten(2))
    return projected


def _heads(attention: Any, name: str, states: Tensor) -> Tensor:
    projected: Tensor = getattr(attention, name)(states)
    return projected.view(*states.shape[:2], -1, attention.head_dim).transpose(1, 2)


def _rotary(rotary: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines at `rows` (batch, k) of every sequence."""
    cosine, sine = (part[0][rows] for part in rotary)
    return cosine, sine
