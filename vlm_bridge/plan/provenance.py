"""`Provenance`: the model of a plan, and the images that chose, tuned or certified it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from vlm_bridge.errors import BridgeError, shown

#: Longest answer, in generated tokens, where a caller does not say.
MAX_NEW_TOKENS = 64
_TEXT = ("model", "fingerprint", "rule")
_IMAGES = ("profiled", "tuned", "certified")


@dataclass(frozen=True)
class Provenance:
    """Where a plan comes from. A plan in words or made by hand has none: every field is empty.

    Images are named by their identities (`vlm_bridge.data.image_ids`).

    Attributes:
        model: name of the model that the plan was made for.
        fingerprint: of that model; `VLM.fingerprint`.
        rule: name of the rule that ranked the layers.
        profiled: images whose measurements the rule read.
        tuned: images on which candidates were compared, and the plan chosen.
        certified: images that decided whether the plan holds.
        max_new_tokens: longest answer that was compared, in tokens; None if no answers were.
        settings: other facts about the choice, JSON-ready: epsilon, thresholds, plans tried.

    Raises:
        BridgeError: a field of another type.

    Example:
        >>> Provenance(model="a", tuned=("x", "y")).spent == {"x", "y"}
        True
    """

    model: str = ""
    fingerprint: str = ""
    rule: str = ""
    profiled: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    certified: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _TEXT:
            if not isinstance(value := getattr(self, name), str):
                raise BridgeError(f"{name} of a plan must be text, got {shown(value)}")
        for name in _IMAGES:
            object.__setattr__(self, name, _identities(name, getattr(self, name)))
        longest: Any = self.max_new_tokens
        if longest is not None and (type(longest) is not int or longest < 1):
            raise BridgeError(
                f"max_new_tokens of a plan must be a positive whole number, got {shown(longest)}"
            )
        given: Any = self.settings
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise BridgeError(
                f"settings of a plan must be an object of named values, got {shown(given)}"
            )

    @property
    def spent(self) -> frozenset[str]:
        """Every image that helped to choose, tune or certify the plan."""
        return frozenset((*self.profiled, *self.tuned, *self.certified))

    @classmethod
    def union(cls, *parts: Provenance) -> Self:
        """The provenance of a plan that is made of several: all their images.

        A name stands where all parts that have one agree; different rules are joined by `+`.
        Settings stay where all parts have them with equal values.

        Raises:
            BridgeError: the parts were made for different models.

        Example:
            >>> sorted(Provenance.union(Provenance(tuned=("a",)), Provenance(tuned=("b",))).spent)
            ['a', 'b']
        """
        first = next((part for part in parts if part.fingerprint), cls())
        for part in parts:
            part.check_model(first.model, first.fingerprint, "other parts of the plan were")
        models = {part.model for part in parts} - {""}
        lengths = {part.max_new_tokens for part in parts} - {None}
        shared = parts[0].settings if parts else {}
        rules = (rule for part in parts for rule in part.rule.split("+"))
        return cls(
            model=first.model or (models.pop() if len(models) == 1 else ""),
            fingerprint=first.fingerprint,
            rule="+".join(dict.fromkeys(rule for rule in rules if rule)),
            **{name: tuple(i for part in parts for i in getattr(part, name)) for name in _IMAGES},
            max_new_tokens=lengths.pop() if len(lengths) == 1 else None,
            settings={
                key: value
                for key, value in shared.items()
                if all(key in part.settings and part.settings[key] == value for part in parts)
            },
        )

    def adding(
        self,
        *,
        model: str = "",
        fingerprint: str = "",
        profiled: Iterable[str] = (),
        tuned: Iterable[str] = (),
        certified: Iterable[str] = (),
        max_new_tokens: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """This provenance with further images and settings; another model is a `BridgeError`."""
        self.check_model(model, fingerprint)
        return replace(
            self,
            model=model or self.model,
            fingerprint=fingerprint or self.fingerprint,
            profiled=(*self.profiled, *profiled),
            tuned=(*self.tuned, *tuned),
            certified=(*self.certified, *certified),
            max_new_tokens=max_new_tokens or self.max_new_tokens,
            settings={**self.settings, **(settings or {})},
        )

    def including(self, parts: Iterable[Provenance]) -> Self:
        """This provenance with the images of `parts` too, and their facts where it has none."""
        whole = self.union(self, *parts)
        return replace(
            whole,
            rule=self.rule or whole.rule,
            max_new_tokens=self.max_new_tokens or whole.max_new_tokens,
            settings=self.settings or whole.settings,
        )

    def check_model(self, name: str, fingerprint: str, verb: str = "this is") -> None:
        """Raise a `BridgeError` unless the plan was made for the model of this fingerprint.

        A plan that names no fingerprint fits every model.
        """
        if self.fingerprint and fingerprint and self.fingerprint != fingerprint:
            raise BridgeError(
                f"the plan was made for {self.model} ({self.fingerprint[:12]}), {verb} "
                f"{name} ({fingerprint[:12]}): weights, dtype, attention or configuration differ"
            )

    def to_json(self) -> dict[str, Any]:
        """JSON data of the fields that are not empty."""
        given = {known.name: getattr(self, known.name) for known in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value not in ("", (), None, {})
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read the data of `to_json`; an unknown field is a `BridgeError`."""
        if not isinstance(data, Mapping):
            raise BridgeError(f"provenance must be an object of named values, got {shown(data)}")
        known = [known.name for known in fields(cls)]
        if unknown := sorted(str(name) for name in data if name not in known):
            raise BridgeError(
                f"provenance has no field {shown(unknown[0])}; it has {', '.join(known)}"
            )
        return cls(**data)


def _identities(name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple | set | frozenset) or not all(
        isinstance(value, str) for value in values
    ):
        raise BridgeError(f"{name} of a plan must be a list of text, got {shown(values)}")
    return tuple(sorted(set(values)))
