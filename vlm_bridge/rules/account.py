"""`Account`: cached measurements, their readers and their cost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from vlm_bridge.errors import BridgeError

T = TypeVar("T")

#: What a rule may read; each level includes those before it.
REQUIREMENTS = ("nothing", "forward pass", "candidate runs", "labels")
#: What may be read outside `open_to`: all but labels.
_DEFAULT = "candidate runs"


class Account:
    """Measurements computed once and charged to every rule that reads them.

    `cost` maps the name of a measurement to its cost in forward-pass equivalents (1 is a full pass
    over all questions), `spent` a rule to the costs, by name, of all measurements that it read.
    """

    def __init__(self) -> None:
        self.cost: dict[str, float] = {}
        self.spent: dict[str, dict[str, float]] = {}
        self._made: dict[str, Any] = {}
        self._rule = ""
        self._requires = _DEFAULT

    @contextlib.contextmanager
    def open_to(self, rule: str, requires: str) -> Iterator[None]:
        """Within the block, allow reading up to level `requires`, and charge it to `rule`."""
        if requires not in REQUIREMENTS:
            raise BridgeError(
                f"rule '{rule}' requires '{requires}', not one of {', '.join(REQUIREMENTS)}"
            )
        before = self._rule, self._requires
        self._rule, self._requires = rule, requires
        self.spent.setdefault(rule, {})
        try:
            yield
        finally:
            self._rule, self._requires = before

    def measured(
        self,
        name: str,
        make: Callable[[], T],
        *,
        forward_cost: float = 1.0,
        requires: str = "forward pass",
    ) -> T:
        """The result of `make`, computed once under `name`, which includes the settings."""
        self._check_allowed(requires, name)
        if name not in self._made:
            self._made[name] = make()
            self.cost[name] = forward_cost
        if self._rule:
            self.spent[self._rule][name] = self.cost[name]
        result: T = self._made[name]
        return result

    def _check_allowed(self, requires: str, what: str) -> None:
        if REQUIREMENTS.index(requires) > REQUIREMENTS.index(self._requires):
            reader = f"rule '{self._rule}'" if self._rule else "code outside a rule"
            raise BridgeError(
                f"{reader} may read {self._requires} at most, and asked for {what} ({requires})"
            )
