"""Informational and cross-modal conditions on captured states: S8, S9, S14 by layer.

From one full pass, against the model's own answer (no label is read):

    usable      I_V(A; T_l) and I_V(A; V_l | T_l), state by state: what a linear probe on the
                leading principal components gets out of the last token's state T_l and the mean
                vision state V_l about the answer A (S14)
    unique, synergistic    of vision, of `A` in clusters of V_l and T_l (S9, BROJA)
    removal     `a |o_V - o_T| / |o|`: how much of the last token's heads goes in layer l without
                vision keys, and its bound `a diam(values) / |o|` (S8)

On real states an estimate of information measures the probe and the clusters: a generic layer
loses nothing for the best predictor, and the fixed suffix may need just what a probe does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from estimators import pid, usable_information
from estimators.clustered import image_mean
from theory.conditions import Bound
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.observe.hooks import capturing_attention, capturing_states
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.runtime.progress import track

Floats = NDArray[np.float64]
#: Principal components a probe sees of each state.
COMPONENTS = 32
#: Clusters of each state that the decomposition sees.
CLUSTERS = 6
#: Fewer images than this say nothing about 30 layers.
FEWEST_IMAGES = 20
#: Relative differences of float32 states that are rounding.
_NOISE = 1e-5


@dataclass(frozen=True, eq=False)
class StateConditions:
    """Conditions by state (0 to L, the output of the last layer) and by layer.

    Attributes:
        usable_text: (L + 1,) `I_V(A; T_l)`, nats.
        usable_vision: (L + 1,) `I_V(A; V_l | T_l)`, nats.
        vision_alone: (L + 1,) `I_V(A; V_l)`, nats.
        unique: (L + 1,) unique information of vision, nats.
        synergistic: (L + 1,) synergistic information, nats.
        removal: (L,) mean over heads of `a |o_V - o_T| / |o|` at the last token.
        removal_bound: (L,) mean over heads of `a diam(values) / |o|`.
        n_images: independent units.
    """

    usable_text: Floats
    usable_vision: Floats
    vision_alone: Floats
    unique: Floats
    synergistic: Floats
    removal: Floats
    removal_bound: Floats
    n_images: int


@dataclass(frozen=True, eq=False)
class CodedStates:
    """States in clusters, one question of every image.

    Attributes:
        text: of every state (0 to L), (n_images,) clusters of the last token.
        vision: of every state, (n_images,) clusters of the mean over vision tokens.
        answers: (n_images,) the model's own first answer token, as codes from 0.
    """

    text: tuple[NDArray[np.int64], ...]
    vision: tuple[NDArray[np.int64], ...]
    answers: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StateAtoms:
    """What vision and text say about the model's own answer, by state (BROJA on `CodedStates`).

    Attributes:
        redundant: (L + 1,) nats.
        unique_vision: (L + 1,) nats.
        unique_text: (L + 1,) nats.
        synergistic: (L + 1,) nats.
    """

    redundant: Floats
    unique_vision: Floats
    unique_text: Floats
    synergistic: Floats


def state_conditions(evidence: Evidence, *, seed: int = 0) -> StateConditions:
    """Measure the conditions, once: one full pass, then probes on what was captured.

    Args:
        evidence: questions about at least `FEWEST_IMAGES` images.
        seed: of folds.

    Raises:
        BridgeError: too few images, or a model that gives one and the same answer to all.
    """
    _captured(evidence)
    return evidence.measured(
        f"probes on captured states, seed {seed}",
        lambda: _measure(evidence, seed),
        forward_cost=0.0,
    )


def coded_states(evidence: Evidence) -> CodedStates:
    """The captured states in `CLUSTERS` clusters each; one full pass.

    Raises:
        BridgeError: as `state_conditions`.
    """
    kept = _captured(evidence)

    def make() -> CodedStates:
        first = np.unique(np.asarray(evidence.clusters), return_index=True)[1]

        def coded(states: list[Floats]) -> tuple[NDArray[np.int64], ...]:
            n = len(kept.answers)
            return tuple(_clusters(_leading(rows), n)[first] for rows in states)

        answers = np.unique(kept.answers, return_inverse=True)[1][first]
        return CodedStates(coded(kept.last), coded(kept.vision), answers.astype(np.int64))

    return evidence.measured("clusters of captured states", make, forward_cost=0.0)


def state_atoms(evidence: Evidence) -> StateAtoms:
    """Atoms of the own answer by vision and text, state by state; one full pass.

    Raises:
        BridgeError: as `state_conditions`.
    """
    coded = coded_states(evidence)

    def make() -> StateAtoms:
        found = [
            pid(v, t, coded.answers, resamples=20)
            for v, t in zip(coded.vision, coded.text, strict=True)
        ]
        names = ("redundant", "unique_1", "unique_2", "synergistic")
        return StateAtoms(*(np.array([getattr(one, name) for one in found]) for name in names))

    return evidence.measured("atoms of captured states", make, forward_cost=0.0)


def _captured(evidence: Evidence) -> _Kept:
    n_images = len(set(evidence.clusters))
    if n_images < FEWEST_IMAGES:
        raise BridgeError(
            f"probes on captured states need at least {FEWEST_IMAGES} images, got {n_images}"
        )
    kept = evidence.measured("captured states", lambda: _capture(evidence))
    if len(set(kept.answers.tolist())) == 1:
        raise BridgeError("the model gives one answer to every question: there is nothing to tell")
    return kept


def _measure(evidence: Evidence, seed: int) -> StateConditions:
    clusters, kept = np.asarray(evidence.clusters), _captured(evidence)
    answers = np.unique(kept.answers, return_inverse=True)[1]
    found: dict[str, list[float]] = {name: [] for name in ("text", "vision", "alone")}
    with track("probes on captured states", len(kept.last)) as advance:
        for last, vision in zip(kept.last, kept.vision, strict=True):
            t, v = _leading(last), _leading(vision)

            def usable(x: Floats | None, given: Floats | None = None) -> float:
                if x is None:
                    return 0.0
                one = usable_information(
                    x, answers, given=given, method="linear", clusters=clusters, seed=seed
                )
                return one.value

            found["text"].append(usable(t))
            found["vision"].append(usable(v, t))
            found["alone"].append(usable(v))
            advance(1)
    atoms = state_atoms(evidence)
    return StateConditions(
        usable_text=np.array(found["text"]),
        usable_vision=np.array(found["vision"]),
        vision_alone=np.array(found["alone"]),
        unique=atoms.unique_vision,
        synergistic=atoms.synergistic,
        removal=image_mean(kept.removal, evidence.clusters),
        removal_bound=image_mean(kept.bound, evidence.clusters),
        n_images=len(set(evidence.clusters)),
    )


def bounds_of(found: StateConditions, mode: str, unit: int) -> list[Bound]:
    """What the conditions say about one unit of a mode, in nats and as shares of a head's output.

    freeze l        S14: what the update of l adds to I_V(A; V)    S8: layers that read after l
    block l         S14: what it adds to I_V(A; T)
    early exit b    S14: I_V(A; V_b | T_b), S9: U_V + S at b       S8: layers from b on
    late entry a    S14: what layers before a add to I_V(A; T)     S8: layers before a
    """
    text, vision, n = found.usable_text, found.vision_alone, len(found.removal)
    after = unit + 1
    goes, read = {
        "freeze": (vision[after] - vision[unit], range(after, n)),
        "block": (text[after] - text[unit], range(0)),
        "early_exit": (found.usable_vision[after], range(after, n)),
        "late_entry": (text[after] - text[0], range(after)),
    }[mode]
    bounds = [
        Bound(
            quantity="usable information about the own answer that goes",
            kind="exactly",
            value=float(goes),
            unit="nats",
            statement="S14",
            checked=(f"held out, {found.n_images} images",),
            assumed=("the suffix does no more than a linear probe",),
        )
    ]
    if mode == "early_exit":
        bounds.append(
            Bound(
                quantity="unique vision information and synergy about the own answer",
                kind="exactly",
                value=float(found.unique[after] + found.synergistic[after]),
                unit="nats",
                statement="S9",
                assumed=(f"{CLUSTERS} clusters of each state keep what matters",),
            )
        )
    if mode != "block":
        bounds.append(
            Bound(
                quantity="change of the last token's heads in the layer that loses most",
                value=max((float(found.removal_bound[j]) for j in read), default=0.0),
                unit="1",
                statement="S8",
                checked=("all values of the prompt",),
            )
        )
    return bounds


class _Kept:
    """What one pass over all questions leaves: arrays with a row for each, in their order."""

    def __init__(self, n: int, n_layers: int) -> None:
        self.last: list[Floats] = [np.empty(0)] * (n_layers + 1)
        self.vision: list[Floats] = [np.empty(0)] * (n_layers + 1)
        self.answers = np.zeros(n, dtype=np.int64)
        self.removal = np.zeros((n, n_layers))
        self.bound = np.zeros((n, n_layers))
        self._n = n

    def put(self, where: list[Floats], state: int, places: list[int], rows: Tensor) -> None:
        if not where[state].size:
            where[state] = np.zeros((self._n, rows.shape[-1]), dtype=np.float32)
        where[state][places] = rows.float().cpu().numpy()


@torch.no_grad()
def _capture(evidence: Evidence) -> _Kept:
    vlm, n_layers = evidence.vlm, evidence.n_layers
    kept = _Kept(len(evidence.items), n_layers)
    with track("states and values", len(evidence.items)) as advance:
        for batch in batches(vlm, evidence.items, batch_size=evidence.batch_size):
            _capture_batch(evidence, batch, kept)
            advance(len(batch.items))
    return kept


def _capture_batch(evidence: Evidence, batch: Batch, kept: _Kept) -> None:
    vlm, places = evidence.vlm, list(batch.places)
    ids = batch.inputs["input_ids"]
    vision = vlm.layout.vision_flags(ids)
    mask = batch.inputs.get("attention_mask")
    real = torch.ones_like(vision) if mask is None else mask.bool()
    share = vision.float() / vision.sum(-1, keepdim=True).clamp(min=1)
    values: dict[int, Tensor] = {}

    def on_states(layer: int, before: Tensor, after: Tensor) -> None:
        for state, states in ((layer, before), (layer + 1, after)):
            if state == layer and layer > 0:
                continue
            kept.put(kept.last, state, places, states[:, -1])
            mean = torch.einsum("bt,btd->bd", share.to(states.device), states.float())
            kept.put(kept.vision, state, places, mean)

    def on_attention(layer: int, weights: Tensor) -> None:
        change, bound = removal(weights[:, :, -1], values.pop(layer).float(), vision, real)
        kept.removal[places, layer] = change.mean(-1).double().cpu().numpy()
        kept.bound[places, layer] = bound.mean(-1).double().cpu().numpy()

    last = torch.full((len(ids), 1), ids.shape[1] - 1)
    with (
        capturing_states(vlm, on_states),
        capturing_attention(vlm, on_attention, last.to, values.__setitem__),
    ):
        logits = vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    kept.answers[places] = logits.argmax(-1).cpu().numpy()


def removal(weights: Tensor, values: Tensor, vision: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """What a query's heads lose without vision keys, and the bound of S8 on it.

    Args:
        weights: (batch, heads, keys) attention of one query, rows summing to 1.
        values: (batch, key-value heads, keys, width).
        vision: (batch, keys) bool.
        real: (batch, keys) bool, no padding.

    Returns:
        `a |o_V - o_T|` and `a diam(values)`, by the length of the head's output o, each
        (batch, heads); the first is at most the second.
    """
    values = values.repeat_interleave(weights.shape[1] // values.shape[1], dim=1)
    seen = vision.to(weights.device)[:, None, :]
    mass = (weights * seen).sum(-1)
    tiny = torch.finfo(weights.dtype).tiny

    def mean(part: Tensor) -> Tensor:
        share = part / part.sum(-1, keepdim=True).clamp(min=tiny)
        return torch.einsum("bhk,bhkd->bhd", share, values)

    gap = mean(weights * seen) - mean(weights * ~seen)
    apart = torch.cdist(values, values)
    both = real.to(weights.device)
    pairs = (both[:, :, None] & both[:, None, :])[:, None]
    mass = mass / torch.einsum("bhk,bhkd->bhd", weights, values).norm(dim=-1).clamp(min=tiny)
    return mass * gap.norm(dim=-1), mass * apart.masked_fill(~pairs, 0.0).amax((-1, -2))


def _leading(rows: Floats) -> Floats | None:
    """Scores on the leading principal components; None where all rows are the same state."""
    exact = np.asarray(rows, dtype=np.float64)
    centred = exact - exact.mean(axis=0)
    if np.abs(centred).max() <= _NOISE * np.abs(exact).max():
        return None
    u, size, _ = np.linalg.svd(centred, full_matrices=False)
    k = min(COMPONENTS, int((size > _NOISE * size[0]).sum()))
    return np.asarray(u[:, :k] * size[:k])


def _clusters(scores: Floats | None, n: int) -> NDArray[np.int64]:
    """Ward's clusters: no start to choose, none empty."""
    if scores is None:
        return np.zeros(n, dtype=np.int64)
    tree = linkage(scores, method="ward")
    # Rows that differ by rounding alone are one cluster, however few there are then.
    far = int((tree[:, 2] > _NOISE * tree[-1, 2]).sum()) + 1
    codes = fcluster(tree, min(CLUSTERS, far), criterion="maxclust")
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
