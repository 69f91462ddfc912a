"""Information about the model's own answer in captured states: S9 and S14 by state.

    usable      I_V(A; T_l) and I_V(A; V_l | T_l): information about the answer A that a linear
                probe on the leading principal components extracts from the last token's state T_l
                and the mean vision state V_l (S14)
    unique, synergistic    of vision, with A, V_l and T_l in clusters (S9, BROJA)

On real states the estimates depend on probe and clusters: most layers lose nothing for the best
predictor, while the fixed suffix may need information that a probe does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from estimators import pid, usable_information
from estimators.clustered import image_mean
from estimators.discrete import entropy, shannon_invariants
from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.states import CapturedStates
from vlm_bridge.runtime.progress import track

Codes = NDArray[np.int64]
#: Principal components of each state that a probe reads.
COMPONENTS = 32
#: Clusters of each state in the decomposition.
CLUSTERS = 6
#: Share of the answers' entropy; the redundancy degree of less information is noise.
LEAST_SHARE = 0.1
#: Largest relative rounding error of float32 states.
_NOISE = 1e-5


@dataclass(frozen=True, eq=False)
class CodedStates:
    """States in clusters, one question of every image.

    Attributes:
        text: per state (0 to L), (n_images,) clusters of the last token.
        vision: per state, (n_images,) clusters of the mean over vision tokens.
        answers: (n_images,) the model's own first answer token, as codes from 0.
    """

    text: tuple[Codes, ...]
    vision: tuple[Codes, ...]
    answers: Codes

    def redundancy_degrees(self, of: Literal["text", "vision"]) -> Floats:
        """(L,) redundancy degree of each layer's input and output states about the answer."""
        states = self.text if of == "text" else self.vision
        return np.array([redundancy(a, b, self.answers) for a, b in pairwise(states)])


@dataclass(frozen=True, eq=False)
class StateAtoms:
    """PID (BROJA) of the model's own answer in vision and text, on `CodedStates`, by state.

    Attributes:
        redundant, unique_vision, unique_text, synergistic: (L + 1,) nats each.
    """

    redundant: Floats
    unique_vision: Floats
    unique_text: Floats
    synergistic: Floats


@dataclass(frozen=True, eq=False)
class StateConditions:
    """Conditions by state (0 to L, the output of the last layer), in nats, and by layer.

    Attributes:
        usable_text: (L + 1,) `I_V(A; T_l)`.
        usable_vision: (L + 1,) `I_V(A; V_l | T_l)`.
        vision_alone: (L + 1,) `I_V(A; V_l)`.
        unique: (L + 1,) unique information of vision.
        synergistic: (L + 1,) synergistic information.
        removal: (L,) mean over heads of `a |o_V - o_T| / |o|` at the last token (S8).
        removal_bound: (L,) mean over heads of `a diam(values) / |o|`.
        n_images: number of independent units.
    """

    usable_text: Floats
    usable_vision: Floats
    vision_alone: Floats
    unique: Floats
    synergistic: Floats
    removal: Floats
    removal_bound: Floats
    n_images: int


def coded_states(states: CapturedStates, clusters: Sequence[str]) -> CodedStates:
    """The captured states in `CLUSTERS` clusters each, for the first question of every image."""
    if len(set(states.answers.tolist())) == 1:
        raise BridgeError("the model gives the same answer to every question: nothing to predict")
    first = np.unique(np.asarray(clusters), return_index=True)[1]
    n = len(states.answers)

    def coded(of: dict[int, Floats]) -> tuple[Codes, ...]:
        return tuple(_clusters(_leading(of[state]), n)[first] for state in sorted(of))

    answers = np.unique(states.answers, return_inverse=True)[1][first]
    return CodedStates(coded(states.last), coded(states.vision), answers.astype(np.int64))


def state_atoms(coded: CodedStates) -> StateAtoms:
    """Atoms of the model's own answer by vision and text, state by state."""
    states = zip(coded.vision, coded.text, strict=True)
    atoms = [pid(v, t, coded.answers, resamples=20) for v, t in states]
    names = ("redundant", "unique_1", "unique_2", "synergistic")
    return StateAtoms(*(np.array([getattr(of_state, n) for of_state in atoms]) for n in names))


def redundancy(a: Codes, b: Codes, answers: Codes) -> float:
    """Redundancy degree in [0, 2]; 1 if the information is below `LEAST_SHARE` of the entropy."""
    degree = shannon_invariants(a, b, answers)[0]
    if float(degree.diagnostics["total_nats"]) < LEAST_SHARE * entropy(answers).value:
        return 1.0
    return float(np.clip(degree.value, 0.0, 2.0))


def state_conditions(
    states: CapturedStates, atoms: StateAtoms, images: Sequence[str], seed: int
) -> StateConditions:
    """Probe the captured states; `images` has the image of every question, `seed` splits folds."""
    answers = np.unique(states.answers, return_inverse=True)[1]
    options: Any = {"method": "linear", "clusters": np.asarray(images), "seed": seed}

    def usable(x: Floats | None, given: Floats | None = None) -> float:
        return 0.0 if x is None else usable_information(x, answers, given=given, **options).value

    rows = []
    with track("probes on captured states", len(states.last)) as advance:
        for state in sorted(states.last):
            text, vision = _leading(states.last[state]), _leading(states.vision[state])
            rows.append((usable(text), usable(vision, text), usable(vision)))
            advance(1)
    usable_text, usable_vision, vision_alone = np.array(rows).T
    return StateConditions(
        usable_text=usable_text,
        usable_vision=usable_vision,
        vision_alone=vision_alone,
        unique=atoms.unique_vision,
        synergistic=atoms.synergistic,
        removal=image_mean(states.removal, images),
        removal_bound=image_mean(states.bound, images),
        n_images=len(set(images)),
    )


def _leading(rows: Floats) -> Floats | None:
    """Scores on the leading principal components; None where all rows are the same state."""
    exact = np.asarray(rows, dtype=np.float64)
    centred = exact - exact.mean(axis=0)
    if np.abs(centred).max() <= _NOISE * np.abs(exact).max():
        return None
    u, size, _ = np.linalg.svd(centred, full_matrices=False)
    k = min(COMPONENTS, int((size > _NOISE * size[0]).sum()))
    return np.asarray(u[:, :k] * size[:k])


def _clusters(scores: Floats | None, n: int) -> Codes:
    """Ward's clusters, which need no initialisation and are never empty."""
    if scores is None:
        return np.zeros(n, dtype=np.int64)
    tree = linkage(scores, method="ward")
    # Rows that differ by rounding alone share a cluster, even if that leaves fewer clusters.
    far = int((tree[:, 2] > _NOISE * tree[-1, 2]).sum()) + 1
    codes = fcluster(tree, min(CLUSTERS, far), criterion="maxclust")
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
