"""Commands that are imported when they run: the help of `skipit` loads no torch."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, get_type_hints

import typer
import typer.main
from typer.core import TyperGroup

#: Every command in the order of the help: where it is, and the first line of its docstring.
COMMANDS = {
    "demo": (
        "vlm_bridge.cli.results:demo",
        "The whole path on the reference VLM, about five minutes on two cores.",
    ),
    "describe": (
        "vlm_bridge.cli.model:describe",
        "Layout, token groups, attention types and supported ways to skip. Reads no weights.",
    ),
    "profile": (
        "vlm_bridge.cli.path:profile",
        "How redundant is each layer, for which tokens? One forward pass, no labels. Resumable.",
    ),
    "plan": (
        "vlm_bridge.cli.path:plan",
        "The largest plan of a rule that changes at most epsilon/2 of the answers.",
    ),
    "certify": (
        "vlm_bridge.cli.path:certify",
        "Bound disagreement and accuracy drop of a plan, on images that chose nothing. Resumable.",
    ),
    "search": (
        "vlm_bridge.cli.searching:search",
        "The largest plan whose disagreement is certified, the search paid for. Resumable.",
    ),
    "compare": (
        "vlm_bridge.cli.path:compare",
        "Full against skipped: accuracy, drop, disagreement, KL, FLOPs and latency. Resumable.",
    ),
    "sweep": (
        "vlm_bridge.cli.path:sweep",
        "Every single-layer skip and freeze, every exit and entry depth, with plots. Resumable.",
    ),
    "slopes": (
        "vlm_bridge.cli.slopes:slopes",
        "How much does the answer feel what each layer does? "
        "Forward-mode slopes, S6 bound. Resumable.",
    ),
    "cost": (
        "vlm_bridge.cli.model:cost",
        "FLOPs counted, latency measured beside the full model, peak memory and cache bytes.",
    ),
    "prune": (
        "vlm_bridge.cli.model:prune",
        "Export a `block` plan as a smaller model that loads and generates without this package.",
    ),
    "rules": (
        "vlm_bridge.cli.listing:rules",
        "The rules `skipit plan --rule` knows: modes, what each reads, its condition and source.",
    ),
    "methods": (
        "vlm_bridge.cli.listing:methods",
        "The published methods `skipit method` runs: settings, what each reads, source, deviation.",
    ),
    "method": (
        "vlm_bridge.cli.method:method",
        "Run a published method end to end beside the full model. Resumable.",
    ),
    "claims": (
        "vlm_bridge.cli.claims:claims",
        "Confirm or refute the paper's claim on trained models, clause by clause. Resumable.",
    ),
    "reproduce": (
        "vlm_bridge.cli.reproducing:reproduce",
        "The paper's protocol on a large model, beside what ShortV and VTW published. Resumable.",
    ),
    "verify": (
        "vlm_bridge.cli.results:verify",
        "Check the theory again: proofs, witnesses, counterexamples, "
        "random and searched instances.",
    ),
    "report": (
        "vlm_bridge.cli.results:report",
        "Draw plots and the self-contained HTML report from results again.",
    ),
}


class LazyGroup(TyperGroup):
    """A group whose commands are only names and summaries until one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command itself in place of its summary."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """The click command of that name, its module imported."""
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
    )
    app.command(name)(grouped(find_function(name)))
    return typer.main.get_command(app)


def find_function(name: str) -> Callable[..., None]:
    """The function behind a command."""
    module, _, function = COMMANDS[name][0].partition(":")
    found: Callable[..., None] = getattr(import_module(module), function)
    return found


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with each option group in its signature spelled out as single options.

    Typer reads a command's options from its signature and knows no groups; this puts the
    fields of a dataclass in place of the parameter that has it as type.
    """
    flat: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind: type[Any] = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(kind, include_extras=True)
        fields = dataclasses.fields(kind)
        groups[parameter.name] = (kind, [field.name for field in fields])
        for field in fields:
            missing = field.default is dataclasses.MISSING
            flat.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if missing else field.default,
                    annotation=hints[field.name],
                )
            )

    @functools.wraps(command)
    def spread(**given: Any) -> None:
        for name, (kind, fields) in groups.items():
            given[name] = kind(**{field: given.pop(field) for field in fields})
        command(**given)

    del spread.__wrapped__
    spread.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    spread.__annotations__ = {one.name: one.annotation for one in flat}
    return spread
