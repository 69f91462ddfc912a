"""Data of a toy VLM: weights, vocabulary and ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ToyTruth:
    """Ground truth of a toy VLM, known by construction. Layers and depths are 0-based.

    Attributes:
        safe_blocks: layers that can be skipped for all tokens, alone or together, without
            changing the logits.
        safe_freezes: layers whose update of vision tokens can be skipped, alone or together.
        safe_entries: depths at which vision tokens can enter.
        safe_exits: depths at which vision tokens can exit.
        vision_distance: cosine distance between input and output of each layer on a vision
            token, dimensionless.
        text_distance: the same on the question token.
        margin: logit of the correct answer minus the second largest logit, for every input and
            under every safe plan.
        unsafe_answer: answer of the model under every unsafe plan.
    """

    safe_blocks: tuple[int, ...]
    safe_freezes: tuple[int, ...]
    safe_entries: tuple[int, ...]
    safe_exits: tuple[int, ...]
    vision_distance: tuple[float, ...]
    text_distance: tuple[float, ...]
    margin: float
    unsafe_answer: str


@dataclass(frozen=True, eq=False)
class ToyVLM:
    """Weights of a Llama-like decoder with planted layers, vision features and ground truth.

    Attributes:
        table: integer array of shape (questions, classes): index of the correct answer.
        schedule: kind of each layer.
        vocabulary: tokens in the order of their ids.
        width: d, dimension of the residual stream.
        head_dim: dimension of the single attention head.
        intermediate: width of the MLP.
        rope_theta: base of the rotary position embedding, so large that positions have no
            effect.
        rms_norm_eps: epsilon of every RMSNorm.
        weights: name -> float64 array, as in a Llama state dict ("layers.0.mlp.up_proj.weight",
            shape (out, in)), with "embed_tokens.weight", "norm.weight" and "lm_head.weight".
        vision: array of shape (classes, d): input state of a vision token of each class.
        truth: ground truth.
    """

    table: NDArray[np.int64]
    schedule: tuple[str, ...]
    vocabulary: tuple[str, ...]
    width: int
    head_dim: int
    intermediate: int
    rope_theta: float
    rms_norm_eps: float
    weights: dict[str, Floats]
    vision: Floats
    truth: ToyTruth

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.schedule)

    def question(self, j: int) -> str:
        """Word for question j."""
        return f"q{j}"

    def answer(self, j: int, c: int) -> str:
        """Correct answer to question j about an image of class c."""
        return f"a{self.table[j, c]}"

    def token(self, word: str) -> int:
        """Id of a token.

        Raises:
            ValueError: the token is not in the vocabulary.
        """
        return self.vocabulary.index(word)

    def joint(self) -> Floats:
        """p[class, question, answer] for uniform classes and questions, shape (k, m, answers)."""
        m, k = self.table.shape
        p = np.zeros((k, m, int(self.table.max()) + 1))
        for j in range(m):
            p[np.arange(k), j, self.table[j]] = 1.0 / (k * m)
        return p
