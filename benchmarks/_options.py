"""Options that the benchmarks of rules and of the claim share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from vlm_bridge.data import TASKS
from vlm_bridge.experiments.rule_benchmark import Settings, Sizes
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.reference.shipped import complete_models
from vlm_bridge.rules import RULES, find_rule

S = TypeVar("S", bound=Settings)
#: Field of `Settings` or `Sizes` -> help; the default is that of the field.
_HELP: Mapping[str, str] = {
    "images": "images for certification, and as many for the test",
    "tuning": "images that choose plans",
    "profiling": "images that rules may look at",
    "epsilon": "largest disagreement of a safe unit and of a certified plan",
    "delta": "probability with which a certificate may be wrong",
    "candidates": "nested plans of a layer-wise rule that are tried",
    "resamples": "bootstrap samples of the certification images",
    "pairs": "timed pairs of full and skipped runs",
    "draws": "random plans of the size of every certified plan; 0 leaves them out",
    "bands": "bands of layers in which text's attention to the image is knocked out, or 0",
    "batch_size": "questions in a batch",
    "null_images": "images of each null model (random weights, shuffled images)",
    "tokens": "tokens generated to time decoding; 0 leaves it out",
}


def add_options(parser: argparse.ArgumentParser, settings: type[Settings]) -> None:
    """Add the options of a benchmark; runs with equal sizes share the work in the checkpoint."""
    known = complete_models()
    parser.add_argument(
        "--models", nargs="+", default=known, help=f"toy, or some of {', '.join(known)} (default)"
    )
    parser.add_argument("--data", choices=list(TASKS), default="easy-vqa", help="one question each")
    parser.add_argument(
        "--rules",
        nargs="+",
        default=list(RULES),
        metavar="RULE",
        help="rules to test; see `skipit rules` (default: all)",
    )
    parser.add_argument(
        "--modes",
        nargs="+",
        default=list(RULE_MODES),
        choices=RULE_MODES,
        metavar="MODE",
        help=f"some of {', '.join(RULE_MODES)} (default: all)",
    )
    for field in (*fields(Sizes), *fields(settings)):
        if field.name in _HELP:
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(field.default),
                default=field.default,
                help=f"{_HELP[field.name]} ({field.default})",
            )
    parser.add_argument(
        "--forward-cost",
        type=float,
        help="budget of every rule, in forward passes over the profiling images (no limit)",
    )
    parser.add_argument("--checkpoint", type=Path, default=Path("out/rules"), help="a folder")


def sizes_of(options: argparse.Namespace) -> Sizes:
    """Number of images of each split."""
    return Sizes(images=options.images, tuning=options.tuning, profiling=options.profiling)


def settings_of(options: argparse.Namespace, kind: type[S]) -> S:
    """The settings of a benchmark."""
    given = {f.name: vars(options)[f.name] for f in fields(kind) if f.name in vars(options)}
    rules = tuple(find_rule(name) for name in options.rules)
    return kind(**{**given, "rules": rules, "modes": tuple(options.modes)})
