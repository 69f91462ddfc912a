"""PID of wide sources about a discrete target, through codes that one joint model learned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows, as_labels, as_rows, paired, same_device
from estimators._pmf import check_unit
from estimators._training import descend
from estimators.clustered import Labels
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
#: Fewer rows for each column of a source leave its code in doubt.
_ROWS_PER_COLUMN = 20
_WIDTH = 32
#: Bits of the target's entropy that may stay unread for the result to be called reliable.
_UNREAD_BITS = 0.1
#: Directions of a source that its encoder sees beside what a linear probe reads from all.
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
    """Decompose what two wide sources say about labels, by way of learned codes of each.

    One joint model, `q(y | x1, x2) = sum_ab f(a | x1) g(b | x2) T(y | a, b)` with encoders f and g
    into `codes` codes, is trained by likelihood on one half of the clusters and encodes the other,
    together with what each code says alone, so that no source is left out because the other
    knows the same; the table n[a, b, y] of held-out codes goes to `pid_from_counts`, and the two
    halves are averaged. All atoms of a half come from one table, so the sum rules hold exactly. A
    code learned jointly keeps what only both sources together say (an exclusive or), which
    single posteriors lose. An encoder sees the 32 widest uncorrelated directions of its source
    and what a linear probe, cross-fitted on the training half, reads from all of it.

    What it decomposes is the information of the codes, at most that of the sources. What they
    leave unread of H(Y) may be noise in the target or missed, and no sample tells the two apart;
    in sources as wide as rows are many, a source may be misread behind the other. So it is
    reliable only where at most 0.1 bit is unread and each source has at most n / 20 columns.

    Args:
        x1: (n, d_1) array or tensor.
        x2: (n, d_2) array or tensor.
        y: (n,) labels.
        codes: codes of each source, at least 2.
        measure: as in `pid_from_pmf`.
        unit: "nats" or "bits".
        level: of the intervals.
        clusters: (n,) labels of the independent clusters; folds keep them together.
        permutations: of the null of `pid_from_counts`.
        seed: of folds, training, bootstrap and null.

    Returns:
        PID. With clusters, intervals are those of rows: they are wider than said where rows of a
        unit repeat each other, and the result is then not called reliable.

    Raises:
        ValueError: bad arrays, labels that are none, fewer than two clusters, codes below 2.

    Source:
        One joint model for all terms: Liang et al. 2023, Quantifying and modeling multimodal
        interactions, NeurIPS, arXiv 2302.12247, section 3 (BATCH); codes in place of couplings.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x1, x2 = rng.normal(size=(2, 1500, 3))
        >>> y = (x1[:, 0] > 0) & (x2[:, 0] > 0)
        >>> found = fit_learned_pid(x1, x2, y, codes=2, unit="bits")
        >>> bool(abs(found.total - 0.811) < 0.15)  # H of an AND
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
        one, two = _encode(features, labels[train], inner, codes, classes, seed)
        table = np.zeros((codes, codes, classes), dtype=np.int64)
        np.add.at(table, (one, two, labels[held]), 1)
        parts.append(
            pid_from_counts(
                table, measure=measure, level=level, permutations=permutations, seed=seed
            )
        )
    found = _mean(parts[0], parts[1])
    shares = np.bincount(labels) / n
    unread = (-float((shares * np.log(shares)).sum()) - found.total) / np.log(2.0)
    doubts = [found.reason] if found.reason else []
    if unread > _UNREAD_BITS:
        doubts.append(
            f"the codes leave {unread:.2f} bits of the target's entropy unread, noise or missed"
        )
    widest = max(a.shape[1], b.shape[1])
    if widest > n / _ROWS_PER_COLUMN:
        doubts.append(f"{n} rows are too few to learn all that {widest} columns may say")
    if ask.codes is not None:
        doubts.append("rows share clusters, but the intervals treat rows as independent")
    return replace(
        found,
        method=f"learned codes ({codes} x {codes}), {found.method}",
        n=ask.cluster_count(n),
        reliable=not doubts,
        reason="; ".join(doubts),
        diagnostics={**found.diagnostics, "unread_bits": unread},
    ).to_unit(unit)


def _features(
    side: Rows,
    labels: NDArray[np.int64],
    row_clusters: NDArray[np.int64],
    train: NDArray[np.int64],
    held: NDArray[np.int64],
    seed: int,
) -> tuple[Rows, Rows]:
    """What an encoder sees of the training and of the held-out rows."""
    probe, classes = LinearProbe(), int(labels.max()) + 1
    codes = np.unique(row_clusters[train], return_inverse=True)[1]
    inside = held_out_log_probabilities(side[train], labels[train], codes, [probe], 4, seed)
    inner = inner_rows(row_clusters[train], seed)
    outside, _ = probe.log_probabilities(
        side[train], labels[train], side[held], inner, classes, seed
    )
    wide = side[:, :_DIRECTIONS] / side[:, :_DIRECTIONS].std(axis=0)
    scores = [found - found.mean(axis=1, keepdims=True) for found in (inside, outside)]
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
    """The likeliest code of every held-out row on each side, from the best of three starts."""
    tried = [_train(features, labels, inner, codes, classes, seed + i) for i in range(_RESTARTS)]
    return min(tried, key=lambda one: one[0])[1]


def _train(
    features: list[tuple[Rows, Rows]],
    labels: NDArray[np.int64],
    inner: NDArray[np.bool_],
    codes: int,
    classes: int,
    seed: int,
) -> tuple[float, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """One start of the joint model: its loss on the inner rows, and the held-out codes."""
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
        one, two = (
            _logits(torch.tensor(held, dtype=torch.float32), encoder).argmax(dim=1).numpy()
            for (_, held), encoder in zip(features, encoders, strict=True)
        )
    return best, (one, two)


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
    found: Tensor = torch.nn.functional.gelu(rows @ into + shift) @ out + rows @ straight + constant
    return found


def _mean(one: PID, two: PID) -> PID:
    """The average of two halves' decompositions; intervals as of independent halves."""
    intervals = {}
    for name in one.intervals:
        (a, b), (c, d) = one.intervals[name], two.intervals[name]
        middle = (getattr(one, name) + getattr(two, name)) / 2
        half = float(np.hypot(b - a, d - c)) / 4
        intervals[name] = (middle - half, middle + half)
    reasons = dict.fromkeys(reason for reason in (one.reason, two.reason) if reason)
    return PID(
        redundant=(one.redundant + two.redundant) / 2,
        unique_1=(one.unique_1 + two.unique_1) / 2,
        unique_2=(one.unique_2 + two.unique_2) / 2,
        synergistic=(one.synergistic + two.synergistic) / 2,
        unit="nats",
        measure=one.measure,
        method=one.method,
        n=(one.n or 0) + (two.n or 0),
        intervals=intervals,
        level=one.level,
        p_values={k: min(1.0, 2 * min(v, two.p_values[k])) for k, v in one.p_values.items()},
        reliable=not reasons,
        reason="; ".join(reasons),
    )
