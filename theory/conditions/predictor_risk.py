"""Risk of predictors, from entropies and informations: I-F, S2, S4, S14."""

from __future__ import annotations

import math

from scipy.special import entr

from theory.conditions.bound import Bound, count, within
from theory.conditions.information_loss import IN_NATS


def risk_gap_from_information(information: float, *, loss_range: float = 1.0) -> Bound:
    """R*(Z) - R*(X) <= M min( sqrt(I/2), sqrt(1 - exp(-I)) ), I = I(X; Y | Z).

    Args:
        information: I >= 0, in nats.
        loss_range: M >= 0, largest minus smallest value of the loss.

    Returns:
        Bound in the unit of the loss.

    Raises:
        ValueError: a negative number.

    Source:
        Statement I-F (Gyorfi, Linder, Walk, arXiv 2307.16735).

    Example:
        >>> risk_gap_from_information(0.02).value
        0.1
    """
    within(information, 0.0, math.inf, "information")
    within(loss_range, 0.0, math.inf, "loss_range")
    root = min(math.sqrt(information / 2.0), math.sqrt(-math.expm1(-information)))
    return Bound(
        quantity="increase of the Bayes risk",
        value=loss_range * root,
        unit="loss",
        statement="I-F",
        checked=("the information is nonnegative",),
        assumed=(IN_NATS, "the values of the loss lie in an interval of length loss_range"),
    )


def nll_change_from_kl(kl_skipped: float, kl_full: float) -> Bound:
    """NLL_skip - NLL_full = E KL(P || p_skip) - E KL(P || p_full), for any two predictors.

    Args:
        kl_skipped: E KL(P || p_skip) >= 0, in nats, with P the true conditional distribution.
        kl_full: E KL(P || p_full) >= 0, in nats.

    Returns:
        Exact value in nats; negative if skipping improves the predictor.

    Raises:
        ValueError: a negative divergence.

    Source:
        Statement S2.

    Example:
        >>> nll_change_from_kl(0.25, 0.5).value
        -0.25
    """
    within(kl_skipped, 0.0, math.inf, "kl_skipped")
    within(kl_full, 0.0, math.inf, "kl_full")
    return Bound(
        quantity="change of the negative log-likelihood",
        kind="exactly",
        value=kl_skipped - kl_full,
        unit="nats",
        statement="S2",
        checked=("both divergences are nonnegative",),
        assumed=("both divergences are from the true conditional distribution",),
    )


def error_from_entropy(entropy: float) -> Bound:
    """P_e <= min( H(Y|Z) / (2 ln 2), 1 - exp(-H(Y|Z)) ), with P_e the Bayes error.

    Args:
        entropy: H(Y|Z) >= 0, in nats.

    Returns:
        Bound on a probability, unit "1".

    Raises:
        ValueError: a negative entropy.

    Source:
        Statement S4a (Hellman & Raviv 1970; Jensen).

    Example:
        >>> round(error_from_entropy(math.log(2.0)).value, 12)
        0.5
    """
    within(entropy, 0.0, math.inf, "entropy")
    return Bound(
        quantity="Bayes error",
        value=min(entropy / (2.0 * math.log(2.0)), -math.expm1(-entropy)),
        unit="1",
        statement="S4a",
        checked=("the entropy is nonnegative",),
        assumed=(IN_NATS,),
    )


def fano_error(entropy: float, *, classes: int) -> Bound:
    """P_e is at least the smallest e with h_b(e) + e log(k - 1) >= H(Y|Z).

    Args:
        entropy: H(Y|Z), in nats, in [0, log k].
        classes: k, at least 2.

    Returns:
        Lower bound on a probability, unit "1".

    Raises:
        ValueError: the entropy is outside [0, log k], or there are fewer than two classes.

    Source:
        Statement S4b (Fano).

    Example:
        >>> round(fano_error(math.log(4.0), classes=4).value, 9)
        0.75
    """
    from scipy.optimize import brentq  # slow to import

    count(classes, 2, "classes")
    within(entropy, 0.0, math.log(classes) * (1.0 + 1e-12), "entropy")
    chance = 1.0 - 1.0 / classes

    def excess(error: float) -> float:
        """Largest entropy at an error minus the given entropy."""
        wrong = error * math.log(classes - 1) if classes > 2 else 0.0
        return float(entr(error) + entr(1.0 - error)) + wrong - entropy

    error = chance if excess(chance) <= 0.0 else 0.0
    if entropy > 0.0 and not error:
        error = float(brentq(excess, 0.0, chance, xtol=1e-15))
    return Bound(
        quantity="Bayes error",
        kind="at least",
        value=error,
        unit="1",
        statement="S4b",
        checked=(f"the entropy lies in [0, log {classes}]",),
        assumed=(IN_NATS,),
    )


def fano_accuracy_drop(entropy_full: float, entropy_skipped: float, *, classes: int) -> Bound:
    """Bound the drop of the Bayes accuracy: S4a for the skipped state minus Fano for the full.

    Args:
        entropy_full: H(Y|Z_full), in nats, in [0, log k].
        entropy_skipped: H(Y|Z_skip), in nats, in [0, log k].
        classes: k, at least 2.

    Returns:
        Bound on the drop of the Bayes accuracy, unit "1".

    Raises:
        ValueError: as `fano_error`.

    Source:
        Statement S4b.

    Example:
        >>> fano_accuracy_drop(0.0, 0.1, classes=4).value < 0.1
        True
    """
    count(classes, 2, "classes")
    for name, entropy in (("entropy_full", entropy_full), ("entropy_skipped", entropy_skipped)):
        within(entropy, 0.0, math.log(classes) * (1.0 + 1e-12), name)
    upper = min(error_from_entropy(entropy_skipped).value, 1.0 - 1.0 / classes)
    lower = fano_error(entropy_full, classes=classes)
    return Bound(
        quantity="drop of the Bayes accuracy",
        value=upper - lower.value,
        unit="1",
        statement="S4b",
        checked=(f"both entropies lie in [0, log {classes}]",),
        assumed=(IN_NATS,),
    )


def usable_information_unsafety(family_entropy: float, *, nll_full: float) -> Bound:
    """NLL_skip - NLL_full >= H_F(Y|Z_skip) - NLL_full: certifies that a skip is harmful.

    Args:
        family_entropy: H_F(Y|Z_skip), in nats: smallest log loss within a family F of predictors
            that contains the fixed suffix of the model.
        nll_full: negative log-likelihood of the full model, in nats.

    Returns:
        Lower bound in nats; positive values prove that the skip is harmful.

    Raises:
        ValueError: a negative number.

    Source:
        Statement S14a (Xu et al. 2020).

    Example:
        >>> round(usable_information_unsafety(0.7, nll_full=0.1).value, 12)
        0.6
    """
    within(family_entropy, 0.0, math.inf, "family_entropy")
    within(nll_full, 0.0, math.inf, "nll_full")
    return Bound(
        quantity="increase of the negative log-likelihood",
        kind="at least",
        value=family_entropy - nll_full,
        unit="nats",
        statement="S14a",
        checked=("both log losses are nonnegative",),
        assumed=("F contains the fixed suffix", "family_entropy is the minimum over F"),
    )
