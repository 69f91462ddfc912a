"""Public functions name a wrong argument in one line: a TypeError or a ValueError, no other."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import theory
from theory import certificates, conditions, shannon, statements, systems
from theory.certificates import certify_mean

HALF = {"quantity": "disagreement", "epsilon": 0.5, "delta": 0.05}
CERTIFICATE = certify_mean([0.0] * 9, range(9), **HALF)
TOY = systems.toy_vlm()

#: Arguments with which each public function works.
VALID: dict[str, dict[str, Any]] = {
    "alarm_stakes": {"epsilon": 0.1},
    "certify_groups": {
        "values": [0, 0, 1],
        "clusters": ["a", "b", "c"],
        "groups": ["x", "x", "y"],
        **HALF,
    },
    "certify_quantile": {
        "values": [0, 0, 1],
        "clusters": ["a", "b", "c"],
        "share": 0.5,
        "limit": 1.0,
        "delta": 0.2,
    },
    "certify_risks": {
        "risks": {"disagreement": [0, 0, 1]},
        "clusters": ["a", "b", "c"],
        "limits": {"disagreement": 0.5},
        "delta": 0.05,
    },
    "certify_shifted": {
        "values": [0, 0, 1],
        "weights": [1.0, 1.0, 1.0],
        "clusters": ["a", "b", "c"],
        "largest_weight": 2.0,
        "epsilon": 0.5,
        "delta": 0.05,
    },
    "conformal_p_values": {"calibration": [0.0, 1.0], "stream": [0.5]},
    "exchangeability_capital": {"p_values": [0.5]},
    "exchangeability_p_value": {
        "certification": [0.0, 1.0],
        "deployment": [0.5],
        "permutations": 9,
    },
    "powered_upper_bound": {
        "losses": [0.0, 1.0],
        "proxies": [0.0, 1.0],
        "unlabelled": [0.0],
        "delta": 0.05,
    },
    "stream_alarm": {"calibration": [0.0, 1.0], "stream": [0.5], "alpha": 0.05},
    "images_for_quantile": {"share": 0.9, "delta": 0.05},
    "quantile_upper_bound": {"values": [0.0, 1.0], "share": 0.5, "delta": 0.3},
    "anytime_p_values": {"values": [0.0, 1.0], "limit": 0.1},
    "anytime_upper_bound": {"means": [0.0, 1.0], "delta": 0.05},
    "certification_power": {"n": 100, "epsilon": 0.1, "delta": 0.05, "harmed": 0.01},
    "certify_mean": {"values": [0, 0, 1], "clusters": ["a", "b", "c"], **HALF},
    "images_for_power": {"epsilon": 0.1, "delta": 0.05, "power": 0.8, "harmed": 0.01},
    "images_at_best": {"epsilon": 0.1, "delta": 0.05, "method": "betting"},
    "images_needed": {"epsilon": 0.1, "delta": 0.05},
    "label_free_drop": {"certificate": CERTIFICATE},
    "learn_then_test": {"values": [[0, 0, 1]], "clusters": ["a", "b", "c"], **HALF},
    "prove": {"claim": "I(X;Y) >= 0"},
    "reachable_epsilon": {"n": 100, "delta": 0.05},
    "verify_statement": {"statement": statements.get("S3"), "trials": 2},
    "zero_failure_bound": {"n": 100, "delta": 0.05},
    "certify_drop": {
        "drop": [0, 0, 1],
        "changed": [0, 1, 1],
        "clusters": ["a", "b", "c"],
        "epsilon": 0.5,
        "delta": 0.05,
    },
    "what_it_takes": {"certificate": CERTIFICATE},
    "rejected": {"p_values": [0.01, 0.5], "delta": 0.05},
    "tango_upper_bound": {"harmed": 1, "helped": 1, "n": 10, "delta": 0.05},
    "drop_bound_from_disagreement": {"disagreement": 0.1},
    "early_exit_loss_from_pid": {"unique_vision": 0.1, "synergistic": 0.1},
    "error_from_entropy": {"entropy": 0.1},
    "exit_bound_from_var": {
        "var": [[0.5]],
        "diameters": [[1.0]],
        "output_norms": [[1.0]],
        "lipschitz": [0.1],
    },
    "fano_accuracy_drop": {"entropy_full": 0.1, "entropy_skipped": 0.2, "classes": 3},
    "fano_error": {"entropy": 0.1, "classes": 3},
    "functional_gap_from_cosine": {"mean": 0.1},
    "functional_gap_from_tail": {"tail": 0.1, "threshold": 0.1},
    "gaussian_exit_loss": {"covariance": np.eye(3), "n_vision": 1},
    "gaussian_information_floor": {"cross_covariance": 0.5 * np.eye(2)},
    "gaussian_information_from_correlation": {"correlation": 0.5, "d": 2},
    "information_gap_from_support": {
        "tail": 0.1,
        "size": 4,
        "largest_ball": 2,
        "smallest_ball": 1,
    },
    "kl_from_logit_change": {"change": [0.0, 1.0]},
    "late_entry_loss_from_collisions": {"before": [[0.0], [1.0]], "after": [[0.0], [0.0]]},
    "log_prob_change_from_logit_change": {"change": [0.0, 1.0]},
    "margin_certificate": {"update_norms": [0.1], "margins": [1.0], "lipschitz": 1.0},
    "matrix_entropy_change": {"mean": 0.1, "n": 4},
    "mean_from_tail": {"tail": 0.1, "threshold": 0.1},
    "nll_change_from_kl": {"kl_skipped": 0.1, "kl_full": 0.1},
    "refit_cost": {"noise_variance": 1.0, "n": 40, "d_text": 10, "d_vision": 10},
    "removal_bound_from_var": {"var": 0.1, "diameter": 1.0},
    "risk_gap_from_information": {"information": 0.1},
    "state_gap": {"norm_before": 1.0, "norm_after": 1.0, "cosine": 0.1},
    "tail_from_mean": {"mean": 0.1, "threshold": 0.1},
    "telescoping_bound": {"update_norms": [1.0, 1.0], "lipschitz": [0.1, 0.1], "skipped": [0]},
    "tv_from_logit_change": {"change": [0.0, 1.0]},
    "usable_information_unsafety": {"family_entropy": 0.5, "nll_full": 0.1},
    "vision_removal_cost": {"entropy_without": 0.5, "entropy_with": 0.1},
    "withdrawal_gap_next": {"gap": 0.1, "text_information": 0.1, "next_text_information": 0.1},
    "elementals": {"variables": ["X", "Y"]},
    "parse_constraints": {"given": "X -> Y -> Z"},
    "parse_relation": {"text": "I(X;Y) >= 0"},
    "get": {"name": "S3"},
    "verify": {"name": "S3", "trials": 2},
    "verify_all": {"names": ["S3"], "trials": 2},
    "attention_head": {"var": 0.5, "seed": 0},
    "degraded_triple": {"shape": (2, 2, 2), "seed": 0},
    "gate": {"name": "xor"},
    "gaussian_system": {"dims": (1, 1, 1), "seed": 0},
    "random_triple": {"shape": (2, 2, 2), "seed": 0},
    "run_toy": {"toy": TOY, "classes": [0], "questions": [0]},
    "scalar_gaussian": {"yv": 0.5, "yt": 0.4, "vt": 0.3},
    "toy_vlm": {},
}
PUBLIC = {
    name: getattr(module, name)
    for module in (theory, certificates, conditions, shannon, statements, systems)
    for name in (getattr(module, "__all__", None) or vars(module))
    if not name.startswith("_")
    and inspect.isfunction(getattr(module, name))
    and getattr(module, name).__module__.startswith("theory")
    and not getattr(module, name).__module__.endswith("_validate")
}
WRONG = {"none": None, "text": "a", "object": object(), "nested": [["a"], {}], "nan": math.nan}
#: Parameters that take None, any text or any object.
FREE = {
    *(
        (name, parameter, "text")
        for name in ("certify_mean", "certify_drop", "certify_shifted")
        for parameter in ("data_hash", "plan_hash", "unit_word", "clusters")
    ),
    *(("certify_groups", "options", wrong) for wrong in WRONG),
    *((name, "unit_word", "text") for name in ("certify_quantile", "certify_risks")),
    ("learn_then_test", "clusters", "text"),
    ("verify_all", "names", "none"),
    ("run_toy", "exit", "none"),
    ("toy_vlm", "table", "none"),
    ("elementals", "variables", "text"),
    *((name, "name", "text") for name in ("get", "verify", "gate")),  # an unknown name is shown
    *(("verify_all", "before", wrong) for wrong in WRONG),
}
#: Words that name a parameter, where the message does not use its name.
SHOWN = {"clusters": "cluster", "names": "name"}
CASES = [
    (name, parameter, wrong)
    for name, function in PUBLIC.items()
    for parameter in inspect.signature(function).parameters
    for wrong in WRONG
    if (name, parameter, wrong) not in FREE
]


def test_every_public_function_has_valid_arguments():
    assert set(VALID) | {"ids"} == set(PUBLIC)


@pytest.mark.parametrize("name", VALID)
def test_valid_arguments_are_taken(name):
    assert PUBLIC[name](**VALID[name]) is not None


@pytest.mark.parametrize(("name", "parameter", "wrong"), CASES)
def test_a_wrong_type_is_named_in_one_line(name, parameter, wrong):
    arguments = {**VALID[name], parameter: WRONG[wrong]}
    with pytest.raises((TypeError, ValueError)) as refused:
        PUBLIC[name](**arguments)
    message = str(refused.value)
    if isinstance(refused.value, shannon.ExpressionError):
        return  # it shows the text and the place in it
    assert SHOWN.get(parameter, parameter) in message
    assert "\n" not in message
    assert len(message) < 400
