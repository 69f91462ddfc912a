"""Hypothesis strategies for information theory: joint pmfs, channels, garblings, covariances.

For property-based tests; needs hypothesis, and dit for `markov_chains`.

Example:
    >>> from hypothesis import given
    >>> from estimators import discrete, strategies
    >>> @given(strategies.joint_pmfs(3))
    ... def test_total_correlation_is_not_negative(p):
    ...     assert discrete.total_correlation_pmf(p) >= -1e-12
    >>> test_total_correlation_is_not_negative()
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from estimators.extras import require

require("estimators.strategies", "hypothesis", "testing")
from hypothesis import strategies as st  # noqa: E402

Floats = NDArray[np.float64]
Size = int | tuple[int, int]
MAX_SYMBOLS = 4

# Weights of probabilities: exact zeros and ordinary numbers, never denormal.
_WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-3, 1.0))


def _sizes(size: Size) -> st.SearchStrategy[int]:
    """A fixed size, or any size in a closed range."""
    low, high = (size, size) if isinstance(size, int) else size
    if not 1 <= low <= high:
        raise ValueError(f"a size must be at least 1 and a range in order, got {size}")
    return st.integers(low, high)


def _weights(shape: tuple[int, ...], positive: bool) -> st.SearchStrategy[Floats]:
    elements = st.floats(1e-3, 1.0) if positive else _WEIGHTS
    count = int(np.prod(shape))
    return st.lists(elements, min_size=count, max_size=count).map(
        lambda values: np.array(values).reshape(shape)
    )


@st.composite
def joint_pmfs(
    draw: st.DrawFn,
    variables: int | Sequence[Size] = 3,
    *,
    positive: bool = False,
    deterministic: bool = True,
) -> Floats:
    """Joint probability mass functions, one axis per variable.

    Args:
        draw: given by hypothesis.
        variables: number of variables, each of 1 to 4 symbols; or the size, or range of sizes, of
            each.
        positive: whether every cell has positive probability.
        deterministic: whether in a quarter of the pmfs the last variable is a function of the
            others (not with `positive`).

    Returns:
        Strategy for float64 arrays that sum to one; zeros, constant variables and point masses
        included.

    Raises:
        ValueError: no variable, a size below 1 or a range out of order.

    Source:
        `dit.utils.testing.distributions`, without its rejections, plus deterministic pmfs.

    Example:
        >>> from hypothesis import find
        >>> find(joint_pmfs((2, 2)), lambda p: p[0, 0] == 0.0).shape
        (2, 2)
    """
    sizes = [(1, MAX_SYMBOLS)] * variables if isinstance(variables, int) else list(variables)
    if not sizes:
        raise ValueError("at least one variable is needed")
    shape = tuple(draw(_sizes(size)) for size in sizes)
    if deterministic and not positive and len(shape) > 1 and draw(st.integers(0, 3)) == 0:
        cause = _probabilities(draw(_weights(shape[:-1], draw(st.booleans()))))
        effect = draw(
            st.lists(st.integers(0, shape[-1] - 1), min_size=cause.size, max_size=cause.size)
        )
        p: Floats = cause[..., None] * np.eye(shape[-1])[np.array(effect)].reshape(shape)
        return p
    return _probabilities(draw(_weights(shape, positive)))


def _probabilities(weights: Floats) -> Floats:
    """Normalised weights; all mass on the first cell if all weights are zero."""
    if not weights.any():
        weights = weights.copy()
        weights.flat[0] = 1.0
    p: Floats = weights / weights.sum()
    return p


@st.composite
def channels(
    draw: st.DrawFn,
    inputs: Size = (1, MAX_SYMBOLS),
    outputs: Size = (1, MAX_SYMBOLS),
    *,
    positive: bool = False,
) -> Floats:
    """Channels P(output | input): matrices whose rows are pmfs.

    Args:
        draw: given by hypothesis.
        inputs: number of inputs, or its range.
        outputs: number of outputs, or its range.
        positive: whether every transition is possible.

    Returns:
        Strategy for float64 arrays of shape (inputs, outputs).

    Raises:
        ValueError: a size below 1 or a range out of order.

    Source:
        As in `dit.utils.testing.channel_pairs`.

    Example:
        >>> from hypothesis import find
        >>> find(channels(2, 3), lambda k: True).sum(axis=1).tolist()
        [1.0, 1.0]
    """
    shape = (draw(_sizes(inputs)), draw(_sizes(outputs)))
    return np.stack([_probabilities(row) for row in draw(_weights(shape, positive))])


def permutation_channels(size: int) -> st.SearchStrategy[Floats]:
    """Channels that permute the symbols: permutation matrices of shape (size, size).

    Example:
        >>> from hypothesis import find
        >>> find(permutation_channels(2), lambda k: k[0, 1] == 1.0).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    return st.permutations(range(size)).map(lambda order: np.eye(size)[list(order)])


@st.composite
def garblings(
    draw: st.DrawFn,
    inputs: Size = (2, MAX_SYMBOLS),
    outputs: Size = (2, MAX_SYMBOLS),
    garbled: Size = (2, MAX_SYMBOLS),
) -> tuple[Floats, Floats, Floats]:
    """A channel k, a garbling g of its output, and their composition: (k, g, k @ g).

    The third is Blackwell-below the first by construction.

    Args:
        draw: given by hypothesis.
        inputs: number of inputs, or its range.
        outputs: number of outputs of the channel, or its range.
        garbled: number of outputs after the garbling, or its range.

    Returns:
        Strategy for three channels.

    Raises:
        ValueError: a size below 1 or a range out of order.

    Source:
        `dit.utils.testing.degraded_channel_pairs`, which does not return the garbling.

    Example:
        >>> from hypothesis import find
        >>> k, g, worse = find(garblings(2, 2, 2), lambda channels: True)
        >>> bool(np.allclose(worse, k @ g))
        True
    """
    channel = draw(channels(inputs, outputs))
    garbling = draw(channels(channel.shape[1], garbled))
    return channel, garbling, channel @ garbling


def markov_chains(length: int = 3, size: Size = (2, MAX_SYMBOLS)) -> st.SearchStrategy[Floats]:
    """Markov chains X1 - X2 - ... : joint pmfs; each variable depends on its predecessor only.

    Args:
        length: number of variables, at least 2.
        size: number of symbols of each, or its range.

    Returns:
        Strategy for float64 arrays with `length` axes.

    Raises:
        ValueError: a length below 2, a size below 1 or a range out of order.

    Source:
        `dit.utils.testing.markov_chains`, as an array with one axis per variable, without
        symbols that never occur.

    Example:
        >>> from hypothesis import Phase, find, settings
        >>> once = settings(max_examples=1, phases=[Phase.generate])
        >>> find(markov_chains(3, 2), lambda p: True, settings=once).ndim
        3
    """
    if length < 2:
        raise ValueError(f"a chain needs at least 2 variables, got {length}")
    _sizes(size)
    require("markov_chains", "dit", "testing")
    from dit.utils.testing import markov_chains as dit_chains

    pair = (size, size) if isinstance(size, int) else size
    chains: st.SearchStrategy[Floats] = dit_chains([pair] * length).map(dense)
    return chains


def dense(distribution: object) -> Floats:
    """A dit distribution as an array, one axis per variable, symbols in dit's order."""
    d = distribution.copy(base="linear")  # type: ignore[attr-defined]
    alphabets = d.alphabet
    p = np.zeros([len(symbols) for symbols in alphabets])
    for outcome, probability in zip(d.outcomes, d.pmf, strict=True):
        cell = tuple(
            symbols.index(symbol) for symbols, symbol in zip(alphabets, outcome, strict=True)
        )
        p[cell] = probability
    return p


@st.composite
def covariances(draw: st.DrawFn, dimension: Size = (1, 5), *, condition: float = 1e4) -> Floats:
    """Symmetric positive definite matrices, from an orthogonal basis and a spectrum.

    Args:
        draw: given by hypothesis.
        dimension: number of variables, or its range.
        condition: largest ratio of eigenvalues, at least 1.

    Returns:
        Strategy for float64 arrays of shape (d, d).

    Raises:
        ValueError: a dimension or condition below 1 or a range out of order.

    Source:
        Spectral theorem; dit has no covariances.

    Example:
        >>> from hypothesis import find
        >>> find(covariances(2), lambda c: c[0, 1] != 0.0).shape
        (2, 2)
    """
    if not condition >= 1.0:
        raise ValueError(f"condition must be at least 1, got {condition}")
    d = draw(_sizes(dimension))
    entries = draw(st.lists(st.floats(-1.0, 1.0), min_size=d * d, max_size=d * d))
    basis, _ = np.linalg.qr(np.array(entries).reshape(d, d) + 1e-3 * np.eye(d))
    exponents = draw(st.lists(st.floats(0.0, 1.0), min_size=d, max_size=d))
    scale = draw(st.floats(0.1, 10.0))
    spectrum = scale * condition ** np.array(exponents)
    c = (basis * spectrum) @ basis.T
    symmetric: Floats = 0.5 * (c + c.T)
    return symmetric
