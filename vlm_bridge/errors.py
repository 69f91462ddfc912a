"""The exceptions whose messages are written for the user."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches

from estimators.extras import MissingExtra

_OF_THE_EXTRA = {
    *("PIL", "accelerate", "filelock", "gguf", "huggingface_hub", "jinja2", "matplotlib"),
    *("platformdirs", "rich", "safetensors", "sympy", "tokenizers", "torch", "transformers"),
    "typer",
}
#: Packages of the extra `serve`.
_OF_THE_SERVER = {"fastapi", "starlette", "uvicorn"}


class BridgeError(ValueError):
    """An invalid request; the message says what was passed and what to do.

    The command line prints it as one line and exits with code 2.
    """


def missing_extra(who: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error that asks for the extra `vlm` or `serve` if a package of it is missing, or `error`.

    Example:
        >>> missing_extra("skipit", ModuleNotFoundError(name="uvicorn.config"))
        MissingExtra("skipit needs uvicorn: pip install 'skipit[serve]'")
    """
    missing = (error.name or "").split(".")[0]
    if missing not in _OF_THE_EXTRA | _OF_THE_SERVER:
        return error
    extra = "serve" if missing in _OF_THE_SERVER else "vlm"
    return MissingExtra(f"{who} needs {missing}: pip install 'skipit[{extra}]'", name=missing)


def first_line(error: BaseException) -> str:
    r"""The first line of an error's text; its type where it has none.

    Example:
        >>> first_line(OSError("no file\nand more")), first_line(KeyboardInterrupt())
        ('no file', 'KeyboardInterrupt')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def among(name: object, known: Iterable[str]) -> str:
    """The names that there are, the nearest to a misspelt one first.

    Example:
        >>> among("shortGPT", ["angular", "shortgpt"])
        'did you mean shortgpt? There are angular, shortgpt'
        >>> among("x", ["angular", "shortgpt"])
        'choose from angular, shortgpt'
    """
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.7)
    listed = ", ".join(by_lower.values())
    return (
        f"did you mean {by_lower[near[0]]}? There are {listed}" if near else f"choose from {listed}"
    )


def got(value: object) -> str:
    """What was passed, as a message names it: a simple value itself, else its type.

    Example:
        >>> got("x"), got([1])
        ("'x'", 'a list')
    """
    if isinstance(value, str | bytes | int | float | dict | os.PathLike) or value is None:
        return shown(value)
    return f"a {type(value).__name__}"


def shown(value: object) -> str:
    """A value as a message shows it: its `repr` in one line of at most 60 characters.

    Example:
        >>> shown([0] * 1000)
        '[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 ...'
    """
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # an int of thousands of digits, a list that holds itself
        text = f"an unprintable {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:56]} ..."
