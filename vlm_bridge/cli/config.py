"""`--config FILE.toml`: options from a file, and the options of a run as such a file."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer import Option

from vlm_bridge.cli.lazy import find_function, with_options
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.runtime.files import read_bytes

#: Options that a file does not hold.
_NEVER = ("config", "dry_run", "as_json", "help")
#: Type of an option -> the types of its value in TOML, and their name; of others it is text.
_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
}


def read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Make the values of a TOML file the defaults of the command; its other options win.

    Raises:
        BridgeError: no TOML, a section, an unknown key, or a value of another type; the message
            names the file and the key.
    """
    if file is None:
        return None
    values = _parsed(file)
    known = {_key(option): option for option in _options(context)}
    kinds = with_options(find_function(str(context.command.name))).__annotations__
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            raise BridgeError(
                f"{file}: {shown(key)} is a section; write all keys at the top, without [sections]"
            )
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise BridgeError(
                f"{file}: no option {shown(key)}; the nearest is '{near[0]}'. Keys are the long "
                f"options of `skipit {context.command.name}` without their dashes in front"
            )
        name = known[key].name
        defaults[name] = _checked(get_args(kinds[name])[0], value, f"{file}: {key}")
    context.default_map = {**(context.default_map or {}), **defaults}
    return file


Config = Annotated[
    Path | None,
    Option(
        callback=read_config,
        is_eager=True,
        help="TOML file of options: a key is the long option without dashes in front, as "
        "`max-new-tokens = 32` and `mode = ['block', 'freeze']`; MODEL is the key model. Options "
        "on the command line win.",
    ),
]


def written_config(context: typer.Context) -> str:
    """The options of the running command as TOML, defaults included; `read_config` takes it."""
    lines = [f"# Options of `skipit {context.command.name}`; repeat it with --config THIS_FILE."]
    for option in _options(context):
        if (value := context.params.get(option.name)) not in (None, [], ()):
            lines.append(f"{_key(option)} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bytes(file, "configuration").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BridgeError(f"{file} is not TOML: {error}") from None


def _options(context: typer.Context) -> Iterator[Any]:
    """The parameters of the command that a file may hold."""
    return (each for each in context.command.params if each.name not in _NEVER)


def _key(option: Any) -> str:
    """The longest spelling of an option without dashes; of an argument its name."""
    return max(option.opts, key=len).lstrip("-") if option.opts else str(option.name)


def _checked(kind: Any, value: Any, where: str) -> Any:
    """The value, if it is of the type `kind` of an option; a repeatable option takes a list."""
    (kind, *_) = [each for each in get_args(kind) if each is not type(None)] or [kind]
    several = get_origin(kind) is list
    types, words = _TYPES.get(get_args(kind)[0] if several else kind, ((str,), "text"))
    each = value if isinstance(value, list) else [value]
    fits = isinstance(value, list) == several and all(
        isinstance(one, types) and (bool in types or not isinstance(one, bool)) for one in each
    )
    if not fits:
        wanted = f"a list, of which each is {words}" if several else words
        raise BridgeError(f"{where} takes {wanted}, got {shown(value)}")
    return value


def _toml(value: Any) -> str:
    """A value in TOML.

    >>> print(_toml(["a", Path("b c")]), _toml(True), _toml(0.05))
    ["a", "b c"] true 0.05
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    # The strings of JSON are those of TOML, but for the sign DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
