"""Options that benchmarks of rules share: which models, how many images, how it is done."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlm_bridge.data import TASKS
from vlm_bridge.experiments.rule_benchmark import Settings, Sizes
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.reference.shipped import shipped_models
from vlm_bridge.rules import RULES


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark; equal sizes find each other's work in the checkpoint."""
    known = shipped_models()
    parser.add_argument(
        "--models", nargs="+", default=known, help=f"toy, or some of {', '.join(known)} (default)"
    )
    parser.add_argument("--data", choices=list(TASKS), default="easy-vqa", help="one question each")
    parser.add_argument("--rules", nargs="+", default=list(RULES), metavar="RULE")
    parser.add_argument("--modes", nargs="+", default=list(RULE_MODES), choices=RULE_MODES)
    parser.add_argument(
        "--images", type=int, default=200, help="to certify, and as many untouched ones (200)"
    )
    parser.add_argument("--tuning", type=int, default=100, help="images that choose paths (100)")
    parser.add_argument("--profiling", type=int, default=40, help="images a rule may look at (40)")
    parser.add_argument("--epsilon", type=float, default=Settings.epsilon)
    parser.add_argument("--delta", type=float, default=Settings.delta)
    parser.add_argument("--candidates", type=int, default=Settings.candidates)
    parser.add_argument("--resamples", type=int, default=Settings.resamples)
    parser.add_argument(
        "--forward-cost",
        type=float,
        help="forward passes over the images seen that every rule may cost (default: no limit)",
    )
    parser.add_argument("--pairs", type=int, default=Settings.pairs, help="timed pairs of a plan")
    parser.add_argument("--batch-size", type=int, default=Settings.batch_size)
    parser.add_argument("--checkpoint", type=Path, default=Path("out/rules"), help="a folder")


def sizes_of(options: argparse.Namespace) -> Sizes:
    """How many images."""
    return Sizes(images=options.images, tuning=options.tuning, profiling=options.profiling)


def settings_of(options: argparse.Namespace) -> Settings:
    """How it is done."""
    return Settings(
        epsilon=options.epsilon,
        delta=options.delta,
        candidates=options.candidates,
        resamples=options.resamples,
        pairs=options.pairs,
        batch_size=options.batch_size,
        forward_cost=options.forward_cost,
    )
