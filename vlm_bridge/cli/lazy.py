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

from vlm_bridge.cli.apart import apart
from vlm_bridge.cli.as_json import AsJson, print_result
from vlm_bridge.cli.quoted import quoted

#: Every command in the order of the help: its module, and the first line of its docstring.
COMMANDS = {
    "demo": ("results", "Run the whole path once on the reference VLM, in about five minutes."),
    "run": (
        "running",
        "Run the whole path: profile, rule, search, certificate, test, cost, page. Resumable.",
    ),
    "describe": ("model", "Show layout, token groups and supported modes of a model."),
    "profile": ("profiling", "Measure how redundant each layer is, without labels. Resumable."),
    "plan": ("planning", "Choose the largest plan of a rule that changes few answers."),
    "certify": ("evaluating", "Bound disagreement and accuracy drop of a plan. Resumable."),
    "search": ("searching", "Find the largest plan whose disagreement is certified. Resumable."),
    "compare": ("evaluating", "Compare a plan with the full model: answers and cost. Resumable."),
    "adaptive": (
        "adaptive",
        "Run an adaptive plan beside the full model: answers, cost, latency. Resumable.",
    ),
    "monitor": (
        "monitoring",
        "Watch a served plan: an alarm if it changes too many answers. Resumable.",
    ),
    "serve": (
        "serving",
        "Serve a model, with or without a plan, in the form of the OpenAI chat API.",
    ),
    "controls": (
        "controlling",
        "Compare a plan with random plans and knockouts. Resumable.",
    ),
    "sweep": ("evaluating", "Skip each layer alone, and try each exit and entry. Resumable."),
    "survey": (
        "surveying",
        "Survey a model: quality, harm of single skips, a certified plan. Resumable.",
    ),
    "slopes": ("slopes", "Measure how sensitive the answer is to each layer's update. Resumable."),
    "cost": ("model", "Measure FLOPs, latency, peak memory and cache size of a plan."),
    "prune": ("model", "Export a block plan as a smaller model of its own."),
    "models": ("models", "List the models and data sets of others, or fetch some of them."),
    "rules": ("listing", "List the rules of `skipit plan --rule`."),
    "scorers": (
        "listing",
        "List the scores that --scorer of `skipit compare` and `certify` takes.",
    ),
    "methods": ("listing", "List the published methods of `skipit method`."),
    "method": ("method", "Run a published method end to end beside the full model. Resumable."),
    "claims": ("claims", "Run the registered protocol on trained models. Resumable."),
    "reproduce": (
        "reproducing",
        "Repeat the experiments of the paper on a large model. Resumable.",
    ),
    "verify": ("results", "Check the theory: proofs, witnesses, counterexamples, instances."),
    "report": (
        "results",
        "Draw the plots and the HTML report of a demo, survey or run again.",
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
    module = import_module(f"vlm_bridge.cli.{COMMANDS[name][0]}")
    command: Callable[..., Any] = getattr(module, name)
    return command


def with_options(command: Callable[..., Any]) -> Callable[..., None]:
    """`command` in the form that Typer reads: its option groups as single options, and `--json`.

    The fields of a dataclass replace the parameter of that type; its `section` is their heading
    in the help. A command with a parameter `as_json` prints JSON itself. A command whose result
    would replace a file that it reads is refused; see `apart`.
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
        with apart(command.__name__, values), quoted(values):
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
