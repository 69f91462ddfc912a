"""Several models in turn, and what was found in files of earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.results import Confirmation, ModelConfirmation
from vlm_bridge.experiments.claims.run import confirm_model
from vlm_bridge.experiments.rule_benchmark import Settings, Sizes, subject
from vlm_bridge.rules import Rule
from vlm_bridge.runtime.files import read_json, write_bytes
from vlm_bridge.runtime.machine import machine


def confirm(
    names: Sequence[str],
    *,
    data: str,
    sizes: Sizes,
    rules: Sequence[Rule],
    modes: Sequence[str],
    settings: Settings,
    folder: Path | None,
    null_images: int = 8,
    tokens: int = 8,
    told: Callable[[Confirmation], None] = lambda _: None,
) -> Confirmation:
    """`confirm_model` on every model; see there for the other arguments.

    Args:
        names: as for `load`, or "toy".
        data: name of a task set.
        sizes: images of each split.
        rules: those to study.
        modes: of the units.
        settings: of the study.
        folder: its journal.
        null_images: images of each null.
        tokens: generated to time a token.
        told: called after every model with all that is done.

    Raises:
        BridgeError: no models or one twice, or as `confirm_model`.
    """
    if not names or len(set(names)) < len(names):
        raise BridgeError(f"name models, each once; got {', '.join(names) or 'none'}")
    done: list[ModelConfirmation] = []
    for name in names:
        one = confirm_model(
            subject(name, data, sizes),
            rules=rules,
            modes=modes,
            settings=settings,
            folder=folder,
            null_images=null_images,
            tokens=tokens,
        )
        done.append(one)
        told(Confirmation(tuple(done), machine()))
    return Confirmation(tuple(done), machine())


def read_confirmation(path: Path) -> Confirmation:
    """What a run wrote.

    Raises:
        BridgeError: there is none in the file.
    """
    try:
        return Confirmation.from_json(read_json(path, "confirmation"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BridgeError(f"{path} does not hold a confirmation: {error}") from None


def write_confirmation(path: Path, found: Confirmation) -> Path:
    """Write it without indentation: it is for programs, and large.

    Raises:
        BridgeError: the file cannot be written.
    """
    return write_bytes(path, (found.dumps() + "\n").encode())


def joined(parts: Sequence[Confirmation]) -> Confirmation:
    """Several runs as one, models in order; commands are joined, the first machine is named.

    Raises:
        BridgeError: none, or a model on the same task set in two of them.
    """
    models = [one for part in parts for one in part.models]
    names = [(one.study.model, one.data) for one in models]
    if not parts or len(set(names)) < len(names):
        raise BridgeError(f"each model counts once on a task set; got {names}")
    command = "; ".join(str(part.machine["command"]) for part in parts)
    return Confirmation(tuple(models), {**parts[0].machine, "command": command})
