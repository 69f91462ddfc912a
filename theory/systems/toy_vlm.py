"""A toy VLM whose redundant layers are planted: Llama weights as arrays, and the truth.

Every token's state has the same norm R, and every write keeps it (a rotation of one amplitude
into another), so RMSNorm multiplies by a known constant and each layer does exactly what is
written here, whatever else is skipped. The residual stream is a list of named slots:

    vis, txt, sink   which kind of token this is
    ker (2)          a plane that nothing reads
    raw, img (k)     the class of the image, before and after "encode"; on vision tokens
    copy (k), blank  where "copy" puts the class; on text tokens
    q (m)            the question; on its token
    out              one slot for each answer, one for "unsure", one for the end of the text
    fill             whatever is missing to R

Kinds of layers:

    identity      adds exactly zero
    kernel        rotates the plane `ker` of every token: the state moves, the output does not
    scale_vision  multiplies vision tokens by a constant: no cosine distance, and no effect,
                  since attention reads them through RMSNorm
    scale_text    multiplies text tokens by a constant: no cosine distance either, yet needed,
                  since what is added later would otherwise be too small to count
    encode        raw -> img on vision tokens (MLP); needed
    copy          img of vision -> copy of text (attention); needed; after it vision is free
    answer        copy and q -> out (MLP, gate times value is an AND); needed
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

KINDS = ("identity", "kernel", "scale_vision", "scale_text", "encode", "copy", "answer")
#: Kinds whose layers may be left out for all tokens without any change of the output.
SAFE_KINDS = ("identity", "kernel", "scale_vision")
SCHEDULE = (
    "identity",
    "encode",
    "kernel",
    "scale_vision",
    "scale_text",
    "copy",
    "identity",
    "kernel",
    "answer",
    "identity",
    "kernel",
)
SPECIAL = ("<pad>", "</s>", "<unk>", "<image>", "<s>")

RADIUS = math.sqrt(12.0)
_FLAG = 1.0
_CODE = 1.0  # amplitude of raw, img, copy, blank and q
_KERNEL = 2.0
_DOUBT = 2.0  # amplitude of "unsure" on a question token, before scale_text
_WRITE = 1.25  # amplitude of the answer: between _DOUBT * _SHRINK and _DOUBT
_SHRINK = 0.25  # scale_text
_GROW = 3.0  # scale_vision
_ANGLE = 2.0 * math.pi / 3.0  # kernel
_MATCH = math.sqrt(40.0)  # of query and key in "copy": other keys get exp(-40)
_GAIN = 3.0  # of the logits


@dataclass(frozen=True)
class ToyTruth:
    """What is known about a toy VLM by construction. Layers and depths are 0-based.

    Attributes:
        safe_blocks: layers that can be left out for all tokens, alone or together, with the
            same logits.
        safe_freezes: layers whose vision update can be left out, alone or together.
        safe_entries: depths at which vision tokens may enter.
        safe_exits: depths at which vision tokens may leave.
        vision_distance: cosine distance each layer moves a vision token, pure number.
        text_distance: the same for the question's token.
        margin: logit of the right answer minus the next one, on every input; also under every
            safe plan.
        unsafe_answer: what the model says under every plan that is not safe.
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
    """Weights of a Llama-like decoder with planted layers, its vision features, its truth.

    Attributes:
        table: integer array of shape (questions, classes): the number of the right answer.
        schedule: kind of every layer.
        vocabulary: the tokens; their positions are the token ids.
        width: d, dimension of the residual stream.
        head_dim: dimension of the one attention head.
        intermediate: width of the MLP.
        rope_theta: base of the rotary positions, so large that positions do not matter.
        rms_norm_eps: of every RMSNorm.
        weights: name -> float64 array, as in a Llama state dict ("layers.0.mlp.up_proj.weight",
            shape (out, in)), with "embed_tokens.weight", "norm.weight" and "lm_head.weight".
        vision: array of shape (classes, d): the state in which a vision token of each class
            enters the decoder.
        truth: what is known by construction.
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
        """The word of question j."""
        return f"q{j}"

    def answer(self, j: int, c: int) -> str:
        """The right answer to question j about an image of class c."""
        return f"a{self.table[j, c]}"

    def token(self, word: str) -> int:
        """Id of a token.

        Raises:
            ValueError: the vocabulary lacks it.
        """
        return self.vocabulary.index(word)

    def joint(self) -> Floats:
        """p[class, question, answer] of uniform classes and questions, shape (k, m, answers)."""
        m, k = self.table.shape
        p = np.zeros((k, m, int(self.table.max()) + 1))
        for j in range(m):
            p[np.arange(k), j, self.table[j]] = 1.0 / (k * m)
        return p


def toy_vlm(table: ArrayLike | None = None, *, schedule: Sequence[str] = SCHEDULE) -> ToyVLM:
    """Build a toy VLM that answers question j about an image of class c with table[j, c].

    Args:
        table: integers of shape (questions, classes), 2 to 16 classes; default: 2 questions
            about 4 classes, answer (c + j) mod 4, so that neither image nor question alone
            says anything.
        schedule: kinds of the layers. "encode", "copy" and "answer" occur once and in this
            order, "scale_text" at most once and before "copy", "scale_vision" only after
            "encode" with no "kernel" between it and "copy" (the rotation would not keep the
            norm where the scaling is skipped).

    Returns:
        The weights and the truth.

    Raises:
        ValueError: a table that is not of whole numbers >= 0 with shape (m, k) or that fits no
            head, a schedule that breaks the rules.

    Source:
        Construction of this project; it answers what arXiv:2509.25584 leaves open (necessity
        of small distances, sufficiency of cosine).

    Example:
        >>> toy = toy_vlm()
        >>> toy.truth.safe_exits, toy.truth.safe_entries
        ((6, 7, 8, 9, 10, 11), (0, 1))
        >>> [toy.schedule[layer] for layer in toy.truth.safe_blocks][:3]
        ['identity', 'kernel', 'scale_vision']
    """
    answers = _as_table(table)
    kinds = _as_schedule(schedule)
    return _Builder(answers, kinds).build()


def _as_table(table: ArrayLike | None) -> NDArray[np.int64]:
    if table is None:
        return (np.arange(4)[None, :] + np.arange(2)[:, None]) % 4
    found = np.asarray(table)
    if found.ndim != 2 or found.dtype.kind not in "iu" or found.size == 0 or found.min() < 0:
        raise ValueError(
            f"table must be whole numbers >= 0 of shape (questions, classes), got {table}"
        )
    if not 2 <= found.shape[1] <= 16 or found.shape[0] > 16:
        raise ValueError(f"2 to 16 classes and 1 to 16 questions fit, got shape {found.shape}")
    return found.astype(np.int64)


def _as_schedule(schedule: Sequence[str]) -> tuple[str, ...]:
    kinds = tuple(schedule)
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds {', '.join(unknown)}; choose from {', '.join(KINDS)}")
    for kind in ("encode", "copy", "answer"):
        if kinds.count(kind) != 1:
            raise ValueError(f"the schedule needs exactly one '{kind}', got {kinds.count(kind)}")
    encode, copy, answer = (kinds.index(kind) for kind in ("encode", "copy", "answer"))
    if not encode < copy < answer:
        raise ValueError("the schedule needs encode before copy before answer")
    if kinds.count("scale_text") != 1 or kinds.index("scale_text") > copy:
        raise ValueError("the schedule needs exactly one 'scale_text', before copy")
    for layer, kind in enumerate(kinds):
        if kind == "scale_vision" and layer < encode:
            raise ValueError("'scale_vision' must come after encode")
        if kind == "scale_vision" and layer < copy and "kernel" in kinds[layer:copy]:
            raise ValueError("no 'kernel' may stand between 'scale_vision' and copy")
    return kinds


class _Builder:
    """Lays out the slots, then writes layer after layer while keeping track of amplitudes."""

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
        # Amplitudes so far, relative to the embedding, and norms of both kinds of token.
        self.scale = {"vis": 1.0, "txt": 1.0}
        self.norm = {"vis": RADIUS, "txt": RADIUS}
        self.weights: dict[str, Floats] = {}

    def slot(self, name: str) -> int:
        return int(self.slots[name][0])

    def build(self) -> ToyVLM:
        self.embed()
        for layer, kind in enumerate(self.kinds):
            self.empty(layer)
            getattr(self, f"write_{kind}")(layer)
        self.weights["norm.weight"] = np.ones(self.d)
        head = np.zeros((len(self.vocabulary), self.d))
        for word, slot in self.out_slots().items():
            head[self.vocabulary.index(word), slot] = _GAIN
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
        return int(self.table.shape[1])

    # --- embeddings -------------------------------------------------------------------------

    def state(self, **amplitudes: float | tuple[int, float]) -> Floats:
        """A state with these amplitudes, the kernel plane, and fill up to the common norm."""
        h = np.zeros(self.d)
        for name, amplitude in amplitudes.items():
            at, size = amplitude if isinstance(amplitude, tuple) else (0, amplitude)
            h[self.slots[name][at]] = size
        h[self.slot("ker")] = _KERNEL
        h[self.slot("fill")] = math.sqrt(RADIUS**2 - float(h @ h))
        return h

    def embed(self) -> None:
        rows = {word: self.state(txt=_FLAG) for word in self.vocabulary}
        rows["<s>"] = self.state(sink=_FLAG)
        for j in range(len(self.table)):
            rows[f"q{j}"] = self.state(txt=_FLAG, q=(j, _CODE), blank=_CODE, unsure=_DOUBT)
        for word in self.out_slots():
            rows[word] = self.state(txt=_FLAG, eos=_DOUBT)
        self.weights["embed_tokens.weight"] = np.stack([rows[word] for word in self.vocabulary])

    def out_slots(self) -> dict[str, int]:
        answers = {f"a{y}": int(slot) for y, slot in enumerate(self.slots["out"])}
        return {**answers, "unsure": self.slot("unsure"), "</s>": self.slot("eos")}

    # --- layers -----------------------------------------------------------------------------

    def empty(self, layer: int) -> None:
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
            made = np.ones(self.d) if shape is None else np.zeros(shape)
            self.weights[f"layers.{layer}.{name}"] = made

    def of(self, layer: int, name: str) -> Floats:
        return self.weights[f"layers.{layer}.{name}.weight"]

    def gain(self, kind: str) -> float:
        """RMSNorm multiplies a token of this kind by sqrt(d) / |h|."""
        return math.sqrt(self.d) / self.norm[kind]

    def linear(self, layer: int, unit: int, kind: str, reads: Floats, writes: Floats) -> int:
        """Add `writes @ reads @ h` to tokens of one kind, from MLP unit `unit` on.

        silu(x) - silu(-x) = x, so a pair of units with gates x and -x, both multiplied by the
        token's flag, is linear in x. Returns the next free unit.
        """
        both = self.gain(kind) ** 2 * self.scale[kind] * _FLAG
        for read, write in zip(reads, writes.T, strict=True):
            for sign in (1.0, -1.0):
                self.of(layer, "mlp.gate_proj")[unit] = sign * read
                self.of(layer, "mlp.up_proj")[unit, self.slot(kind)] = 1.0
                self.of(layer, "mlp.down_proj")[:, unit] = sign * write / both
                unit += 1
        return unit

    def write_identity(self, layer: int) -> None:
        """Nothing."""

    def write_kernel(self, layer: int) -> None:
        plane = np.zeros((2, self.d))
        plane[[0, 1], self.slots["ker"]] = 1.0
        cos, sin = math.cos(_ANGLE), math.sin(_ANGLE)
        turn = np.array([[cos - 1.0, -sin], [sin, cos - 1.0]])
        unit = self.linear(layer, 0, "vis", plane, plane.T @ turn)
        self.linear(layer, unit, "txt", plane, plane.T @ turn)

    def write_scale_vision(self, layer: int) -> None:
        self._rescale(layer, "vis", _GROW)

    def write_scale_text(self, layer: int) -> None:
        self._rescale(layer, "txt", _SHRINK)

    def _rescale(self, layer: int, kind: str, factor: float) -> None:
        self.linear(layer, 0, kind, np.eye(self.d), (factor - 1.0) * np.eye(self.d))
        self.scale[kind] *= factor
        self.norm[kind] *= factor

    def write_encode(self, layer: int) -> None:
        reads, writes = np.zeros((self.k, self.d)), np.zeros((self.d, self.k))
        for c in range(self.k):
            reads[c, self.slots["raw"][c]] = 1.0
            writes[self.slots["raw"][c], c] = -1.0
            writes[self.slots["img"][c], c] = 1.0
        self.linear(layer, 0, "vis", reads, writes)

    def write_copy(self, layer: int) -> None:
        # The slowest rotary pairs carry the match, so that positions do not matter.
        to_vision, to_sink = self.hd // 2 - 1, self.hd // 2 - 2
        root = math.sqrt(math.sqrt(self.hd))  # undone by the attention's own scaling
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
        code = self.gain("txt") * self.scale["txt"] * _CODE
        both = code * code / (1.0 + math.exp(-code))  # silu(code) * code
        units = ((j, c) for j in range(len(self.table)) for c in range(self.k))
        for unit, (j, c) in enumerate(units):
            self.of(layer, "mlp.gate_proj")[unit, self.slots["copy"][c]] = 1.0
            self.of(layer, "mlp.up_proj")[unit, self.slots["q"][j]] = 1.0
            out = self.slots["out"][self.table[j, c]]
            self.of(layer, "mlp.down_proj")[out, unit] = _WRITE / both
        self.norm["txt"] = math.hypot(self.norm["txt"], _WRITE)

    # --- truth ------------------------------------------------------------------------------

    def truth(self) -> ToyTruth:
        layers = range(len(self.kinds))
        encode, copy, answer = (self.kinds.index(kind) for kind in ("encode", "copy", "answer"))
        # Squared norm over R^2 of a token scaled back: 1, and more once the answer is written.
        grown = 1.0 + (_WRITE / (_SHRINK * RADIUS)) ** 2
        turned = _KERNEL**2 * (1.0 - math.cos(_ANGLE)) / RADIUS**2
        moved = _CODE**2 / RADIUS**2
        vision = {"kernel": turned, "encode": moved}
        text = {"kernel": turned, "copy": moved, "answer": 1.0 - 1.0 / math.sqrt(grown)}
        late = {"kernel": turned / grown}
        doubt = _SHRINK * _DOUBT
        gap = math.sqrt(self.d) * _GAIN * (_WRITE - doubt) / self.norm["txt"]
        return ToyTruth(
            safe_blocks=tuple(i for i in layers if self.kinds[i] in SAFE_KINDS),
            safe_freezes=tuple(i for i in layers if i != encode),
            safe_entries=tuple(range(encode + 1)),
            safe_exits=tuple(range(copy + 1, len(self.kinds) + 1)),
            vision_distance=tuple(vision.get(kind, 0.0) for kind in self.kinds),
            text_distance=tuple(
                (late if i > answer else text).get(self.kinds[i], 0.0) for i in layers
            ),
            margin=gap,
            unsafe_answer="unsure",
        )
