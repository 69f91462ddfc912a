"""`RuleScores`: what a rule says of every unit of some modes, as a result that is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from estimators.frames import to_pandas
from estimators.record import Record
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Rule, check_mode, score_units, units_of

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class UnitScore(Record):
    """The score of one unit; lower means safer to skip.

    Attributes:
        mode: what is skipped there.
        unit: its position in `units(mode, L)`.
        words: what the unit skips, in words.
        score: of the rule, in its own scale.
    """

    mode: str
    unit: int
    words: str
    score: float


@dataclass(frozen=True)
class RuleScores(Record):
    """The scores of a rule, for every unit of some modes of one stack.

    Attributes:
        rule: its name.
        model, fingerprint: name and fingerprint of the model.
        stack: whose layers are ranked.
        scores: of every unit, mode by mode. Scores of different modes are not comparable.
    """

    rule: str
    model: str
    fingerprint: str
    stack: str
    scores: tuple[UnitScore, ...]

    @classmethod
    def of(
        cls, rule: Rule, evidence: Evidence, modes: Sequence[str | None] = (None,)
    ) -> RuleScores:
        """The scores in each mode; None is the rule's first mode that the model has.

        Measurements that the evidence already has cost nothing again.

        Raises:
            BridgeError: as `score_units`.
        """
        scores = []
        for wanted in modes:
            mode = check_mode(rule, wanted, evidence.modality)
            values = score_units(rule, evidence, mode).tolist()
            units = units_of(rule, mode, evidence)
            for place, (unit, value) in enumerate(zip(units, values, strict=True)):
                words = unit.describe(evidence.modality)
                scores.append(UnitScore(mode, place, words, value))
        made = evidence.provenance(rule.name, rule.requires)
        return cls(rule.name, made.model, made.fingerprint, evidence.stack, tuple(scores))

    def to_pandas(self) -> DataFrame:
        """A row for each unit: mode, unit, words, score.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return to_pandas(self.scores)
