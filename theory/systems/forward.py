"""Forward pass of a toy VLM in numpy, with explicit skip operations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory._validate import check_count, check_counts, check_instance
from theory.systems.toy_model import Floats, ToyVLM


@dataclass(frozen=True, eq=False)
class ToyRun:
    """Result of a forward pass.

    Attributes:
        states: array of shape (layers + 1, n, length, d): states[l] is the input of layer l.
        var: array of shape (layers, n): attention mass of the last token on vision tokens.
        logits: array of shape (n, vocabulary): logits of the last token.
    """

    states: Floats
    var: Floats
    logits: Floats

    def margins(self) -> Floats:
        """Largest minus second largest logit, array of shape (n,)."""
        top = np.sort(self.logits, axis=-1)
        return np.asarray(top[:, -1] - top[:, -2])


def run_toy(
    toy: ToyVLM,
    classes: Collection[int],
    questions: Collection[int],
    *,
    block: Collection[int] = (),
    freeze: Collection[int] = (),
    entry: int = 0,
    exit: int | None = None,
    n_vision: int = 4,
) -> ToyRun:
    """Run n inputs "<s>, n_vision vision tokens, question" through a toy VLM.

    Args:
        toy: the model.
        classes: image classes, n integers.
        questions: questions, n integers.
        block: layers skipped for all tokens.
        freeze: layers that do not update vision tokens.
        entry: first layer with vision tokens.
        exit: first layer without vision tokens; None if vision tokens stay to the end.
        n_vision: number of vision tokens per image, at least 1.

    Raises:
        ValueError: different numbers of classes and questions, an unknown class or question, or
            a layer or depth out of range.

    Example:
        >>> from theory.systems import toy_vlm
        >>> toy = toy_vlm()
        >>> full = run_toy(toy, [3], [1])
        >>> toy.vocabulary[int(full.logits[0].argmax())], toy.answer(1, 3)
        ('a0', 'a0')
    """
    check_instance(toy, ToyVLM, "toy")
    c, j = (
        np.array(check_counts(numbers, name), dtype=np.intp)
        for name, numbers in (("classes", classes), ("questions", questions))
    )
    check_counts(block, "block")
    check_counts(freeze, "freeze")
    check_count(entry, "entry", least=0)
    check_count(n_vision, "n_vision")
    if exit is not None:
        check_count(exit, "exit", least=0)
    m, k = toy.table.shape
    last = toy.n_layers if exit is None else exit
    if c.shape != j.shape or not c.size:
        raise ValueError(
            f"{c.size} classes but {j.size} questions; give equally many, at least one"
        )
    if not ((0 <= c) & (c < k)).all() or not ((0 <= j) & (j < m)).all():
        raise ValueError(f"classes lie in 0..{k - 1}, questions in 0..{m - 1}")
    if not all(0 <= layer < toy.n_layers for layer in (*block, *freeze)):
        raise ValueError(f"layers lie in 0..{toy.n_layers - 1}, got {(*block, *freeze)}")
    if not (0 <= entry <= toy.n_layers and 0 <= last <= toy.n_layers) or n_vision < 1:
        raise ValueError(f"depths lie in 0..{toy.n_layers}, got entry {entry} and exit {exit}")
    table = toy.weights["embed_tokens.weight"]
    sink = np.broadcast_to(table[toy.token("<s>")], (c.size, 1, toy.width))
    words = table[[toy.token(toy.question(int(i))) for i in j]][:, None]
    vision = np.repeat(toy.vision[c][:, None], n_vision, axis=1)
    h = np.concatenate([sink, vision, words], axis=1)  # (n, length, d)
    is_vision = np.zeros(h.shape[1], dtype=bool)
    is_vision[1 : 1 + n_vision] = True
    states, masses = [h], []
    for layer in range(toy.n_layers):
        absent = layer < entry or layer >= last
        new, mass = _layer(toy, layer, h, is_vision, hide=absent)
        if layer in block:
            new = h
        elif absent or layer in freeze:
            new = np.where(is_vision[None, :, None], h, new)
        h = new
        states.append(h)
        masses.append(mass)
    final = _rms_norm(toy, h[:, -1]) * toy.weights["norm.weight"]
    return ToyRun(np.stack(states), np.stack(masses), final @ toy.weights["lm_head.weight"].T)


def _layer(
    toy: ToyVLM, layer: int, h: Floats, is_vision: NDArray[np.bool_], *, hide: bool
) -> tuple[Floats, Floats]:
    """Output of a layer and attention mass of the last token on vision, masked if `hide`."""

    def weight(name: str) -> Floats:
        """Weight of this layer by name."""
        return toy.weights[f"layers.{layer}.{name}.weight"]

    x = _rms_norm(toy, h) * weight("input_layernorm")
    query = _rotate(toy, x @ weight("self_attn.q_proj").T)
    key = _rotate(toy, x @ weight("self_attn.k_proj").T)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(toy.head_dim)  # (n, queries, keys)
    length = h.shape[1]
    visible = np.tril(np.ones((length, length), dtype=bool))
    if hide:
        visible &= ~(is_vision[None, :] & ~is_vision[:, None])
    scores = np.where(visible, scores, -np.inf)
    a = np.exp(scores - scores.max(axis=-1, keepdims=True))
    a /= a.sum(axis=-1, keepdims=True)
    value = x @ weight("self_attn.v_proj").T
    h = h + a @ value @ weight("self_attn.o_proj").T
    x = _rms_norm(toy, h) * weight("post_attention_layernorm")
    gate, up = x @ weight("mlp.gate_proj").T, x @ weight("mlp.up_proj").T
    h = h + (gate / (1.0 + np.exp(-gate)) * up) @ weight("mlp.down_proj").T
    return h, a[:, -1, is_vision].sum(axis=-1)


def _rms_norm(toy: ToyVLM, h: Floats) -> Floats:
    """RMSNorm without gain."""
    return np.asarray(h / np.sqrt((h**2).mean(axis=-1, keepdims=True) + toy.rms_norm_eps))


def _rotate(toy: ToyVLM, x: Floats) -> Floats:
    """Rotary position embedding of pairs (i, i + head_dim / 2), as in Llama."""
    half = toy.head_dim // 2
    frequency = toy.rope_theta ** (-2.0 * np.arange(half) / toy.head_dim)
    angle = np.arange(x.shape[1])[:, None] * frequency  # (length, half)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
