"""PID of high-dimensional sources about a discrete target, from learned discrete codes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows, as_labels, as_rows, paired, same_device
from estimators._pmf import check_unit
from estimators._training import descend
from estimators.clustered import Labels
from estimators.decomposition._atom_intervals import atoms_verdict
from estimators.decomposition._halves import halves_doubts, mean_of_halves, widened
from estimators.decomposition.counts import pid_from_counts
from estimators.decomposition.result import PID
from estimators.extras import require
from estimators.information._request import Request
from estimators.usable._folds import folds_of
from estimators.usable.crossfit import held_out_log_probabilities, uncorrelated
from estimators.usable.linear import LinearProbe, inner_rows

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = 20
_EPOCHS = 150
#: Fewest rows per column of a source for a reliable code.
_ROWS_PER_COLUMN = 20
_WIDTH = 32
#: Largest unexplained entropy of the target, in bits, of a reliable result.
_UNREAD_BITS = 0.1
#: Widest directions of a source that its encoder uses, besides the scores of a linear probe.
_DIRECTIONS = 32
_RESTARTS = 3


def fit_learned_pid(
    x1: Any,
    x2: Any,
    y: Any,
    *,
    codes: int = 4,
    measure: str = "broja",
    unit: str = "nats",
    level: float = 0.95,
    clusters: Labels | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> PID:
    """PID of two high-dimensional sources about labels, from learned codes of the sources.

    A joint model `q(y | x1, x2) = sum_ab f(a | x1) g(b | x2) T(y | a, b)`, with encoders f and g
    into `codes` codes, is trained by likelihood on one half of the clusters and encodes the other
    half. The likelihood also includes predictions from each code alone, so that no redundant
    source is ignored. The table n[a, b, y] of held-out codes goes to `pid_from_counts`, and the
    decompositions of both halves are averaged. Joint training preserves synergy (such as an
    exclusive or), which posteriors of single sources lose. The input of an encoder are the 32
    widest uncorrelated directions of its source and cross-fitted scores of a linear probe on
    all directions.

    The result decomposes the information of the codes, at most that of the sources. The rest of
    H(Y) may be noise or missed information, which samples cannot distinguish: intervals are
    wider by it on both sides. The result is reliable only if at most 0.1 bit of H(Y) is
    unexplained, each source has at most n / 20 columns, and every interval is narrow.

    Args:
        x1: (n, d_1) array or tensor.
        x2: (n, d_2) array or tensor.
        y: (n,) labels.
        codes: number of codes of each source, at least 2.
        measure: as in `pid_from_pmf`.
        unit: "nats" or "bits".
        level: confidence of the intervals.
        clusters: (n,) labels of the independent clusters.
        permutations: number of random permutations for p-values, as in `pid_from_counts`.
        seed: seed of folds, training, bootstrap and permutations.

    Returns:
        PID. With clusters, intervals still treat rows as independent, which is too narrow where
        rows of a cluster depend on each other; the result is then unreliable.

    Raises:
        ValueError: invalid arrays, a y without labels, fewer than two clusters, codes below 2.

    Source:
        A joint model for all terms: Liang et al. 2023, Quantifying and modeling multimodal
        interactions, NeurIPS, arXiv 2302.12247, section 3 (BATCH); codes in place of couplings.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> bits = rng.integers(0, 2, size=(2, 200, 1))
        >>> x1, x2 = bits + 0.1 * rng.normal(size=bits.shape)
        >>> result = fit_learned_pid(x1, x2, (bits[0] & bits[1])[:, 0], codes=2, unit="bits")
        >>> bool(abs(result.total - 0.811) < 0.15)  # H of an AND
        True
    """
    if codes < 2:
        raise ValueError(f"a source needs at least 2 codes, got {codes}")
    check_unit(unit)
    same_device(x1=x1, x2=x2, y=y)
    a, b = as_rows(x1, "x1"), as_rows(x2, "x2")
    labels = as_labels(y, "y")
    if labels is None:
        raise ValueError("y must be (n,) labels: whole numbers, booleans or strings")
    n = paired(x1=a, x2=b, y=labels[:, None].astype(np.float64))
    ask = Request.of(n, level=level, clusters=clusters, permutations=0, seed=seed)
    row_clusters = np.arange(n) if ask.codes is None else ask.codes
    classes = int(labels.max()) + 1
    sides = [uncorrelated(side)[:, ::-1] for side in (a, b)]  # the widest directions first
    parts = []
    for train, held in folds_of(row_clusters, 2, seed):
        features = [_features(side, labels, row_clusters, train, held, seed) for side in sides]
        inner = inner_rows(row_clusters[train], seed)
        codes_1, codes_2 = _encode(features, labels[train], inner, codes, classes, seed)
        table = np.zeros((codes, codes, classes), dtype=np.int64)
        np.add.at(table, (codes_1, codes_2, labels[held]), 1)
        parts.append(
            pid_from_counts(
                table, measure=measure, level=level, permutations=permutations, seed=seed
            )
        )
    result = mean_of_halves(parts[0], parts[1])
    shares = np.bincount(labels) / n
    unread_nats = -float((shares * np.log(shares)).sum()) - result.total
    unread = unread_nats / np.log(2.0)
    doubts = halves_doubts(*parts)
    if unread > _UNREAD_BITS:
        doubts.append(f"the codes leave {unread:.2f} bits of the target's entropy unexplained")
    widest = max(a.shape[1], b.shape[1])
    if widest > n / _ROWS_PER_COLUMN:
        doubts.append(f"{n} rows are too few to learn codes of {widest} columns")
    if ask.codes is not None:
        doubts.append("rows share clusters, but the intervals treat rows as independent")
    intervals = widened(result, max(unread_nats, 0.0))
    reliable, reason = atoms_verdict(result.atoms, intervals, doubts)
    return replace(
        result,
        intervals=intervals,
        method=f"learned codes ({codes} x {codes}), {result.method}",
        n=ask.cluster_count(n),
        reliable=reliable,
        reason=reason,
        diagnostics={**result.diagnostics, "unread_bits": unread},
    ).to_unit(unit)


def _features(
    side: Rows,
    labels: NDArray[np.int64],
    row_clusters: NDArray[np.int64],
    train: NDArray[np.int64],
    held: NDArray[np.int64],
    seed: int,
) -> tuple[Rows, Rows]:
    """Encoder inputs of the training and held-out rows."""
    probe, classes = LinearProbe(), int(labels.max()) + 1
    codes = np.unique(row_clusters[train], return_inverse=True)[1]
    inside = held_out_log_probabilities(side[train], labels[train], codes, [probe], 4, seed)
    inner = inner_rows(row_clusters[train], seed)
    outside, _ = probe.log_probabilities(
        side[train], labels[train], side[held], inner, classes, seed
    )
    wide = side[:, :_DIRECTIONS] / side[:, :_DIRECTIONS].std(axis=0)
    scores = [log_p - log_p.mean(axis=1, keepdims=True) for log_p in (inside, outside)]
    spread = max(float(scores[0].std()), 1e-6)
    return (
        np.concatenate([wide[train], scores[0] / spread], axis=1),
        np.concatenate([wide[held], scores[1] / spread], axis=1),
    )


def _encode(
    features: list[tuple[Rows, Rows]],
    labels: NDArray[np.int64],
    inner: NDArray[np.bool_],
    codes: int,
    classes: int,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Likeliest code of every held-out row on each side, from the best of three starts."""
    fits = [_train(features, labels, inner, codes, classes, seed + i) for i in range(_RESTARTS)]
    return min(fits, key=lambda fit: fit[0])[1]


def _train(
    features: list[tuple[Rows, Rows]],
    labels: NDArray[np.int64],
    inner: NDArray[np.bool_],
    codes: int,
    classes: int,
    seed: int,
) -> tuple[float, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Train the joint model once; returns the inner loss and the held-out codes."""
    require("a learned PID", "torch", "neural")
    import torch

    generator = torch.Generator().manual_seed(seed)
    seen = [torch.tensor(train, dtype=torch.float32) for train, _ in features]
    encoders = [_encoder(side.shape[1], codes, generator) for side in seen]
    table = torch.randn(codes, codes, classes, generator=generator) * 0.5
    alone = [torch.randn(codes, classes, generator=generator) * 0.5 for _ in encoders]
    parameters = [weight for encoder in encoders for weight in encoder] + [table, *alone]
    target = torch.tensor(labels)

    def loss(rows: Tensor) -> Tensor:
        f, g = (
            torch.softmax(_logits(side[rows], encoder), dim=1)
            for side, encoder in zip(seen, encoders, strict=True)
        )
        answers = [
            torch.einsum("na,nb,aby->ny", f, g, torch.softmax(table, dim=2)),
            f @ torch.softmax(alone[0], dim=1),
            g @ torch.softmax(alone[1], dim=1),
        ]
        each = [-torch.log(p[torch.arange(len(rows)), target[rows]] + 1e-9) for p in answers]
        return torch.stack(each).mean()

    rows, judges = torch.tensor(np.flatnonzero(~inner)), torch.tensor(np.flatnonzero(inner))
    best, _ = descend(
        parameters,
        loss,
        lambda: float(loss(judges)),
        rows,
        generator=generator,
        epochs=_EPOCHS,
        batch=128,
        rate=1e-2,
        patience=_PATIENCE,
        weight_decay=1e-2,
    )
    with torch.no_grad():
        codes_1, codes_2 = (
            _logits(torch.tensor(held, dtype=torch.float32), encoder).argmax(dim=1).numpy()
            for (_, held), encoder in zip(features, encoders, strict=True)
        )
    return best, (codes_1, codes_2)


def _encoder(inputs: int, codes: int, generator: Any) -> list[Any]:
    """Weights of `W2 gelu(W1 x + c) + V x + b`."""
    import torch

    def normal(rows: int, columns: int) -> Tensor:
        drawn: Tensor = torch.randn(rows, columns, generator=generator) / rows**0.5
        return drawn

    return [
        normal(inputs, _WIDTH),
        torch.zeros(_WIDTH),
        normal(_WIDTH, codes),
        normal(inputs, codes),
        torch.zeros(codes),
    ]


def _logits(rows: Tensor, weights: list[Any]) -> Tensor:
    import torch

    into, shift, out, straight, constant = weights
    hidden: Tensor = torch.nn.functional.gelu(rows @ into + shift)
    logits: Tensor = hidden @ out + rows @ straight + constant
    return logits
