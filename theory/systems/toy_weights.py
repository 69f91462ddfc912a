"""Llama weights of a toy VLM with planted redundant layers, and the resulting ground truth.

The state of every token has the same norm R. Every update preserves it, because it rotates one
amplitude into another. RMSNorm therefore multiplies by a known constant, and each layer acts as
listed below no matter which other layers are skipped. The residual stream consists of named slots
of coordinates:

    vis, txt, sink   type of the token: vision, text or attention sink
    ker (2)          a plane that no layer and no output reads
    raw, img (k)     image class before and after "encode", on vision tokens
    copy (k), blank  image class after and before "copy", on text tokens
    q (m)            question, on the question token
    out              answers; the slots "unsure" and "eos" hold the two other outputs
    fill             completes the norm to R

Kinds of layers:

    identity      adds exactly zero
    kernel        rotates the plane `ker` of every token: changes the state, not the output
    scale_vision  multiplies vision tokens by a constant: cosine distance 0 and redundant, since
                  attention reads the tokens through RMSNorm
    scale_text    multiplies text tokens by a constant: cosine distance 0 but necessary, since
                  later updates are too small relative to unscaled tokens
    encode        raw -> img on vision tokens (MLP); necessary
    copy          img of vision -> copy of text (attention); necessary; vision is redundant after
    answer        copy and q -> out (MLP whose gate times value is a logical AND); necessary
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from theory.systems.toy_model import Floats, ToyTruth, ToyVLM

KINDS = ("identity", "kernel", "scale_vision", "scale_text", "encode", "copy", "answer")
#: Kinds of layers that can be skipped for all tokens without changing the output.
SAFE_KINDS = ("identity", "kernel", "scale_vision")
SPECIAL = ("<pad>", "</s>", "<unk>", "<image>", "<s>")

RADIUS = math.sqrt(12.0)
_FLAG = 1.0
_CODE = 1.0  # amplitude of raw, img, copy, blank and q
_KERNEL = 2.0
_UNSURE = 2.0  # amplitude of "unsure" on a question token, before scale_text
_ANSWER = 1.25  # amplitude of the answer: between _UNSURE * _TEXT_FACTOR and _UNSURE
_TEXT_FACTOR = 0.25  # of scale_text
_VISION_FACTOR = 3.0  # of scale_vision
_ANGLE = 2.0 * math.pi / 3.0  # rotation by kernel
_MATCH = math.sqrt(40.0)  # query and key in "copy": non-matching keys get weight exp(-40)
_LOGIT_SCALE = 3.0


class ToyWeights:
    """Assigns the slots, then writes one layer after another and tracks the amplitudes."""

    def __init__(self, table: NDArray[np.int64], kinds: tuple[str, ...]) -> None:
        m, k = table.shape
        n_answers = int(table.max()) + 1
        self.table, self.kinds = table, kinds
        sizes = {"vis": 1, "txt": 1, "sink": 1, "ker": 2, "raw": k, "img": k, "copy": k}
        sizes |= {"blank": 1, "q": m, "out": n_answers, "unsure": 1, "eos": 1, "fill": 1}
        self.slots: dict[str, NDArray[np.int64]] = {}
        end = 0
        for name, size in sizes.items():
            self.slots[name] = np.arange(end, end + size)
            end += size
        self.d = 16 * math.ceil(end / 16)
        self.hd = 16 if k <= 12 else 32
        self.mlp = max(2 * self.d, k * m, 8)
        words = [f"q{j}" for j in range(m)], [f"a{y}" for y in range(n_answers)]
        self.vocabulary = (*SPECIAL, *words[0], *words[1], "unsure")
        # Scale factors relative to the embedding, and norms, per type of token.
        self.scale = {"vis": 1.0, "txt": 1.0}
        self.norm = {"vis": RADIUS, "txt": RADIUS}
        self.weights: dict[str, Floats] = {}

    def slot(self, name: str) -> int:
        """First coordinate of a slot."""
        return int(self.slots[name][0])

    def build(self) -> ToyVLM:
        """All weights, with the ground truth."""
        self.embed()
        for layer, kind in enumerate(self.kinds):
            self.add_zeros(layer)
            getattr(self, f"write_{kind}")(layer)
        self.weights["norm.weight"] = np.ones(self.d)
        head = np.zeros((len(self.vocabulary), self.d))
        for word, slot in self.out_slots().items():
            head[self.vocabulary.index(word), slot] = _LOGIT_SCALE
        self.weights["lm_head.weight"] = head
        return ToyVLM(
            table=self.table,
            schedule=self.kinds,
            vocabulary=self.vocabulary,
            width=self.d,
            head_dim=self.hd,
            intermediate=self.mlp,
            rope_theta=1e9,
            rms_norm_eps=1e-12,
            weights=self.weights,
            vision=np.stack([self.state(vis=_FLAG, raw=(c, _CODE)) for c in range(self.k)]),
            truth=self.truth(),
        )

    @property
    def k(self) -> int:
        """Number of image classes."""
        return int(self.table.shape[1])

    # --- embeddings -------------------------------------------------------------------------

    def state(self, **amplitudes: float | tuple[int, float]) -> Floats:
        """State with the given amplitudes and the kernel plane, filled up to norm R."""
        h = np.zeros(self.d)
        for name, amplitude in amplitudes.items():
            offset, size = amplitude if isinstance(amplitude, tuple) else (0, amplitude)
            h[self.slots[name][offset]] = size
        h[self.slot("ker")] = _KERNEL
        h[self.slot("fill")] = math.sqrt(RADIUS**2 - float(h @ h))
        return h

    def embed(self) -> None:
        """Token embeddings."""
        rows = {word: self.state(txt=_FLAG) for word in self.vocabulary}
        rows["<s>"] = self.state(sink=_FLAG)
        for j in range(len(self.table)):
            rows[f"q{j}"] = self.state(txt=_FLAG, q=(j, _CODE), blank=_CODE, unsure=_UNSURE)
        for word in self.out_slots():
            rows[word] = self.state(txt=_FLAG, eos=_UNSURE)
        self.weights["embed_tokens.weight"] = np.stack([rows[word] for word in self.vocabulary])

    def out_slots(self) -> dict[str, int]:
        """Coordinate that the logit of each output word reads."""
        answers = {f"a{y}": int(slot) for y, slot in enumerate(self.slots["out"])}
        return {**answers, "unsure": self.slot("unsure"), "</s>": self.slot("eos")}

    # --- layers -----------------------------------------------------------------------------

    def add_zeros(self, layer: int) -> None:
        """Add a layer whose attention and MLP are zero."""
        shapes = {
            "input_layernorm.weight": None,
            "post_attention_layernorm.weight": None,
            "self_attn.q_proj.weight": (self.hd, self.d),
            "self_attn.k_proj.weight": (self.hd, self.d),
            "self_attn.v_proj.weight": (self.hd, self.d),
            "self_attn.o_proj.weight": (self.d, self.hd),
            "mlp.gate_proj.weight": (self.mlp, self.d),
            "mlp.up_proj.weight": (self.mlp, self.d),
            "mlp.down_proj.weight": (self.d, self.mlp),
        }
        for name, shape in shapes.items():
            self.weights[f"layers.{layer}.{name}"] = np.zeros(shape) if shape else np.ones(self.d)

    def of(self, layer: int, name: str) -> Floats:
        """Weight matrix of a layer by name."""
        return self.weights[f"layers.{layer}.{name}.weight"]

    def gain(self, kind: str) -> float:
        """Factor sqrt(d) / |h| by which RMSNorm multiplies a token of this type."""
        return math.sqrt(self.d) / self.norm[kind]

    def linear(self, layer: int, unit: int, kind: str, reads: Floats, writes: Floats) -> int:
        """Add `writes @ reads @ h` to tokens of one type, with MLP units from `unit` on.

        silu(x) - silu(-x) = x, so two units with gates x and -x, both multiplied by the flag of
        the token type, are linear in x. Returns the next unused unit.
        """
        scale = self.gain(kind) ** 2 * self.scale[kind] * _FLAG
        for read, write in zip(reads, writes.T, strict=True):
            for sign in (1.0, -1.0):
                self.of(layer, "mlp.gate_proj")[unit] = sign * read
                self.of(layer, "mlp.up_proj")[unit, self.slot(kind)] = 1.0
                self.of(layer, "mlp.down_proj")[:, unit] = sign * write / scale
                unit += 1
        return unit

    def write_identity(self, layer: int) -> None:
        """Leave the layer zero."""

    def write_kernel(self, layer: int) -> None:
        """Rotate the kernel plane of vision and text tokens."""
        plane = np.zeros((2, self.d))
        plane[[0, 1], self.slots["ker"]] = 1.0
        cos, sin = math.cos(_ANGLE), math.sin(_ANGLE)
        turn = np.array([[cos - 1.0, -sin], [sin, cos - 1.0]])
        unit = self.linear(layer, 0, "vis", plane, plane.T @ turn)
        self.linear(layer, unit, "txt", plane, plane.T @ turn)

    def write_scale_vision(self, layer: int) -> None:
        """Multiply vision tokens by a constant."""
        self._rescale(layer, "vis", _VISION_FACTOR)

    def write_scale_text(self, layer: int) -> None:
        """Multiply text tokens by a constant."""
        self._rescale(layer, "txt", _TEXT_FACTOR)

    def _rescale(self, layer: int, kind: str, factor: float) -> None:
        self.linear(layer, 0, kind, np.eye(self.d), (factor - 1.0) * np.eye(self.d))
        self.scale[kind] *= factor
        self.norm[kind] *= factor

    def write_encode(self, layer: int) -> None:
        """Move the class of vision tokens from raw to img."""
        reads, writes = np.zeros((self.k, self.d)), np.zeros((self.d, self.k))
        for c in range(self.k):
            reads[c, self.slots["raw"][c]] = 1.0
            writes[self.slots["raw"][c], c] = -1.0
            writes[self.slots["img"][c], c] = 1.0
        self.linear(layer, 0, "vis", reads, writes)

    def write_copy(self, layer: int) -> None:
        """Let text tokens attend to vision tokens and copy the class from img to copy."""
        # Queries and keys match in the rotary pairs of lowest frequency: positions have no effect.
        to_vision, to_sink = self.hd // 2 - 1, self.hd // 2 - 2
        root = math.sqrt(math.sqrt(self.hd))  # cancels the scaling of the scores
        for pair, query, key in ((to_vision, "txt", "vis"), (to_sink, "vis", "sink")):
            for name, kind in (("q_proj", query), ("k_proj", key)):
                amplitude = self.scale.get(kind, 1.0) * _FLAG * math.sqrt(self.d)
                amplitude /= self.norm.get(kind, RADIUS)
                self.of(layer, f"self_attn.{name}")[pair, self.slot(kind)] = (
                    _MATCH * root / amplitude
                )
        read = self.gain("vis") * self.scale["vis"] * _CODE
        write = self.scale["txt"] * _CODE
        for c in range(self.k):
            self.of(layer, "self_attn.v_proj")[c, self.slots["img"][c]] = 1.0 / read
            self.of(layer, "self_attn.o_proj")[self.slots["copy"][c], c] = write
            self.of(layer, "self_attn.o_proj")[self.slot("blank"), c] = -write

    def write_answer(self, layer: int) -> None:
        """Write the answer of the table for the question and the copied class."""
        code = self.gain("txt") * self.scale["txt"] * _CODE
        product = code * code / (1.0 + math.exp(-code))  # silu(code) * code
        pairs = ((j, c) for j in range(len(self.table)) for c in range(self.k))
        for unit, (j, c) in enumerate(pairs):
            self.of(layer, "mlp.gate_proj")[unit, self.slots["copy"][c]] = 1.0
            self.of(layer, "mlp.up_proj")[unit, self.slots["q"][j]] = 1.0
            out = self.slots["out"][self.table[j, c]]
            self.of(layer, "mlp.down_proj")[out, unit] = _ANSWER / product
        self.norm["txt"] = math.hypot(self.norm["txt"], _ANSWER)

    # --- truth ------------------------------------------------------------------------------

    def truth(self) -> ToyTruth:
        """Ground truth that follows from the construction."""
        layers = range(len(self.kinds))
        encode, copy, answer = (self.kinds.index(kind) for kind in ("encode", "copy", "answer"))
        # Squared norm of a question token over R^2, scale_text undone, after the answer is written.
        answered = 1.0 + (_ANSWER / (_TEXT_FACTOR * RADIUS)) ** 2
        rotation = _KERNEL**2 * (1.0 - math.cos(_ANGLE)) / RADIUS**2
        transfer = _CODE**2 / RADIUS**2
        vision = {"kernel": rotation, "encode": transfer}
        before = {
            "kernel": rotation,
            "copy": transfer,
            "answer": 1.0 - 1.0 / math.sqrt(answered),
        }
        after = {"kernel": rotation / answered}
        amplitude_gap = _ANSWER - _TEXT_FACTOR * _UNSURE
        margin = math.sqrt(self.d) * _LOGIT_SCALE * amplitude_gap / self.norm["txt"]
        return ToyTruth(
            safe_blocks=tuple(i for i in layers if self.kinds[i] in SAFE_KINDS),
            safe_freezes=tuple(i for i in layers if i != encode),
            safe_entries=tuple(range(encode + 1)),
            safe_exits=tuple(range(copy + 1, len(self.kinds) + 1)),
            vision_distance=tuple(vision.get(kind, 0.0) for kind in self.kinds),
            text_distance=tuple(
                (after if i > answer else before).get(self.kinds[i], 0.0) for i in layers
            ),
            margin=margin,
            unsafe_answer="unsure",
        )
