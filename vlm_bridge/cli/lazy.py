"""The commands, each imported when it is called, so that `skipit --help` loads no torch."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, get_args, get_type_hints

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

from vlm_bridge.cli.as_json import AsJson, print_result

#: Every command in the order of the help: its function, and the first line of its docstring.
COMMANDS = {
    "demo": (
        "vlm_bridge.cli.results:demo",
        "Run the whole path once on the reference VLM, in about five minutes on two cores.",
    ),
    "describe": (
        "vlm_bridge.cli.model:describe",
        "Show the layout, token groups and supported modes of a model. Reads no weights.",
    ),
    "profile": (
        "vlm_bridge.cli.profiling:profile",
        "Measure how redundant each layer is for each token group, without labels. Resumable.",
    ),
    "plan": (
        "vlm_bridge.cli.planning:plan",
        "Choose the largest plan of a rule that changes at most epsilon/2 of the answers.",
    ),
    "certify": (
        "vlm_bridge.cli.evaluating:certify",
        "Bound the disagreement and the accuracy drop of a plan on unused images. Resumable.",
    ),
    "search": (
        "vlm_bridge.cli.planning:search",
        "Find the largest plan whose disagreement can be certified. Resumable.",
    ),
    "compare": (
        "vlm_bridge.cli.evaluating:compare",
        "Compare a plan with the full model: answers, KL, FLOPs and latency. Resumable.",
    ),
    "sweep": (
        "vlm_bridge.cli.evaluating:sweep",
        "Skip every layer alone, and try every exit and entry depth. Resumable.",
    ),
    "slopes": (
        "vlm_bridge.cli.slopes:slopes",
        "Measure how sensitive the answer is to the update of each layer. Resumable.",
    ),
    "cost": (
        "vlm_bridge.cli.model:cost",
        "Measure FLOPs, latency, peak memory and cache size of a plan.",
    ),
    "prune": (
        "vlm_bridge.cli.model:prune",
        "Export a block plan as a smaller model that loads without this package.",
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
        "Test each claim of the paper on trained models. Resumable.",
    ),
    "reproduce": (
        "vlm_bridge.cli.reproducing:reproduce",
        "Repeat the experiments of the paper on a large model of yours. Resumable.",
    ),
    "verify": (
        "vlm_bridge.cli.results:verify",
        "Check the theory: proofs, witnesses, counterexamples and random instances.",
    ),
    "report": (
        "vlm_bridge.cli.results:report",
        "Draw the plots and the HTML report of a demo from its results.",
    ),
}


class LazyGroup(TyperGroup):
    """A group that imports the module of a command when the command is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the placeholder of a command by the command."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


class Command(TyperCommand):
    """A command whose help lists its options by section, whole lines at any width."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one list of options for each section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            kind = f"{parameter.param_type_name.capitalize()}s"
            if record is not None:
                title = getattr(parameter, "rich_help_panel", None) or kind
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def load_command(name: str) -> Any:
    """Import the command `name` and return it as a click command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name, cls=Command)(with_options(find_function(name)))
    return typer.main.get_command(app)


def find_function(name: str) -> Callable[..., Any]:
    """Import the function of the command `name`."""
    module, _, function = COMMANDS[name][0].partition(":")
    command: Callable[..., Any] = getattr(import_module(module), function)
    return command


def with_options(command: Callable[..., Any]) -> Callable[..., None]:
    """`command` in the form that Typer reads: its option groups as single options, and `--json`.

    The fields of a dataclass replace the parameter of that type; its `section` is their heading
    in the help. `--json` prints the value that `command` returns and moves everything else that
    it prints to standard error. A command that has `as_json` as parameter does this itself.
    """
    flat: dict[str, inspect.Parameter] = {}
    groups: dict[str, tuple[type[Any], list[str]]] = {}

    def add(name: str, annotation: Any, default: Any) -> None:
        kind = inspect.Parameter.KEYWORD_ONLY
        flat[name] = inspect.Parameter(name, kind, default=default, annotation=annotation)

    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group: Any = parameter.annotation
        if not hasattr(group, "section"):
            add(parameter.name, parameter.annotation, parameter.default)
            continue
        hints = get_type_hints(group, include_extras=True)
        fields = dataclasses.fields(group)
        groups[parameter.name] = (group, [field.name for field in fields])
        for field in fields:
            missing = field.default is dataclasses.MISSING
            default = inspect.Parameter.empty if missing else field.default
            add(field.name, _in_section(hints[field.name], group.section), default)
    prints_itself = "as_json" in flat
    if not prints_itself:
        add("as_json", AsJson, False)

    @functools.wraps(command)
    def spread(**values: Any) -> None:
        for name, (group, fields) in groups.items():
            values[name] = group(**{field: values.pop(field) for field in fields})
        if prints_itself:
            command(**values)
        else:
            print_result(command, values.pop("as_json"), values)

    del spread.__wrapped__
    spread.__signature__ = inspect.Signature(list(flat.values()))  # type: ignore[attr-defined]
    spread.__annotations__ = {name: p.annotation for name, p in flat.items()}
    return spread


def _in_section(hint: Any, section: str) -> Any:
    """The annotation of an option, moved to a section of the help; arguments stay."""
    kind, information = get_args(hint)
    if not isinstance(information, OptionInfo):
        return hint
    moved = copy.copy(information)
    moved.rich_help_panel = section
    return Annotated[kind, moved]
