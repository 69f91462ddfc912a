"""Settings of a whole run, from a TOML file and from the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError, among, shown
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.scorers import find_scorers
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.rules import find_rule
from vlm_bridge.runtime.files import read_bytes
from vlm_bridge.runtime.strict_json import decode_utf8

#: What the questions are for, in the order in which they are used.
SPLITS = ("profiling", "tuning", "certification", "test")


@dataclass(frozen=True)
class RunSettings:
    """Settings of a whole run.

    Attributes:
        rule: rules whose plans are candidates.
        mode: modes of these plans; those that a rule or the model lacks are left out. Empty: for
            each rule its first that the model has.
        epsilon: largest share of changed answers to certify.
        delta: probability that the certificate is wrong.
        shares: of the images, one for each of `SPLITS`, where all come from one file.
        scorer: scores of the comparison.
        max_new_tokens: longest answer, in tokens.
        batch_size: questions in a batch.
        pairs: timed pairs of full and skipped model.
        seed: of the order in which the images of one file are dealt.

    Raises:
        BridgeError: an unknown rule, mode or scorer, or a number out of range.

    Example:
        >>> RunSettings(epsilon=0.05).rule
        ('skip-it-slopes',)
    """

    rule: tuple[str, ...] = ("skip-it-slopes",)
    mode: tuple[str, ...] = ()
    epsilon: float = 0.02
    delta: float = 0.05
    shares: tuple[float, ...] = (0.1, 0.2, 0.4, 0.3)
    scorer: tuple[str, ...] = ("exact",)
    max_new_tokens: int = MAX_NEW_TOKENS
    batch_size: int = 16
    pairs: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kinds in (("rule", str), ("mode", str), ("scorer", str), ("shares", float)):
            given: Any = getattr(self, name)
            given = (given,) if isinstance(given, str) else given
            if not isinstance(given, list | tuple) or not all(isinstance(x, kinds) for x in given):
                what = "numbers with a point" if kinds is float else "names"
                raise BridgeError(f"{name} is a list of {what}, got {shown(given)}")
            object.__setattr__(self, name, tuple(given))
        for name in ("epsilon", "delta"):
            value: Any = getattr(self, name)
            if not isinstance(value, float) or not 0 < value < 1:
                raise BridgeError(f"{name} must lie between 0 and 1, got {shown(value)}")
        for name, least in (
            *(("max_new_tokens", 1), ("batch_size", 1)),
            *(("pairs", 1), ("seed", 0)),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise BridgeError(f"{name} is a whole number from {least}, got {shown(value)}")
        if not self.rule:
            raise BridgeError("a run needs at least one rule, got none")
        for rule in self.rule:
            find_rule(rule)
        for mode in self.mode:
            if mode not in RULE_MODES:
                raise BridgeError(f"unknown mode '{mode}'; {among(mode, RULE_MODES)}")
        find_scorers(self.scorer)
        total = sum(self.shares)
        if len(self.shares) != len(SPLITS) or min(self.shares) <= 0 or abs(total - 1) > 1e-9:
            raise BridgeError(
                f"shares are {len(SPLITS)} numbers above 0 that add up to 1, for "
                f"{', '.join(SPLITS)}; got {shown(self.shares)}"
            )


def read_settings(path: Path, known: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a TOML file: names of `RunSettings`, and of `known`, with what they are.

    Raises:
        BridgeError: no such file, no TOML, or a name that is not known; the message names the
            nearest.

    Example:
        >>> read_settings(Path("missing.toml"), {})
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: no settings at missing.toml
    """
    try:
        given = tomllib.loads(decode_utf8(read_bytes(path, "settings")))
    except (ValueError, RecursionError) as error:
        raise BridgeError(f"the settings at {path} are no TOML: {error}") from None
    names = [*known, *(field.name for field in fields(RunSettings))]
    for name in given:
        if name.replace("-", "_") not in names:
            raise BridgeError(f"{path} has an unknown setting '{name}'; {among(name, names)}")
    return {name.replace("-", "_"): value for name, value in given.items()}


def written_settings(settings: RunSettings, others: Mapping[str, Any]) -> str:
    """The settings as TOML that `read_settings` reads; `others` are the names beside them.

    Example:
        >>> written_settings(RunSettings(), {"data": "d.jsonl"}).splitlines()[:2]
        ['# Settings of `skipit run`; --config takes them.', 'data = "d.jsonl"']
    """
    both = {**others, **json_of(settings)}
    # JSON is TOML for text, numbers, and lists of these.
    lines = (f"{k} = {json.dumps(v)}\n" for k, v in both.items() if v not in (None, ""))
    return "# Settings of `skipit run`; --config takes them.\n" + "".join(lines)


def json_of(settings: RunSettings) -> dict[str, Any]:
    """All settings, with lists in place of tuples.

    Example:
        >>> json_of(RunSettings())["rule"]
        ['skip-it-slopes']
    """
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
