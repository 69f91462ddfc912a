"""Several models in turn, and what was found in files of earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.results import ClaimsResult, ModelClaims
from vlm_bridge.experiments.claims.run import check_claims
from vlm_bridge.experiments.rule_benchmark import Settings, Sizes, load_case
from vlm_bridge.rules import Rule
from vlm_bridge.runtime.files import read_json, write_bytes
from vlm_bridge.runtime.machine import machine


def check_models(
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
    on_model: Callable[[ClaimsResult], None] = lambda _: None,
) -> ClaimsResult:
    """`check_claims` on every model; see there for the other arguments.

    Args:
        names: as for `load`, or "toy".
        data: name of a task set.
        sizes: images of each split.
        rules: those to benchmark.
        modes: of the units.
        settings: of the benchmark.
        folder: its checkpoint.
        null_images: images of each null.
        tokens: generated to time a token.
        on_model: called after every model with all that is done.

    Raises:
        BridgeError: no models or one twice, or as `check_claims`.
    """
    if not names or len(set(names)) < len(names):
        raise BridgeError(f"name models, each once; got {', '.join(names) or 'none'}")
    done: list[ModelClaims] = []
    for name in names:
        one = check_claims(
            load_case(name, data, sizes),
            rules=rules,
            modes=modes,
            settings=settings,
            folder=folder,
            null_images=null_images,
            tokens=tokens,
        )
        done.append(one)
        on_model(ClaimsResult(tuple(done), machine()))
    return ClaimsResult(tuple(done), machine())


def read_claims(path: Path) -> ClaimsResult:
    """What a run wrote.

    Raises:
        BridgeError: there is none in the file.
    """
    try:
        return ClaimsResult.from_json(read_json(path, "result of `skipit claims`"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BridgeError(f"{path} does not hold a result of `skipit claims`: {error}") from None


def write_claims(path: Path, found: ClaimsResult) -> Path:
    """Write it without indentation: it is for programs, and large.

    Raises:
        BridgeError: the file cannot be written.
    """
    return write_bytes(path, (found.dumps() + "\n").encode())


def joined(parts: Sequence[ClaimsResult]) -> ClaimsResult:
    """Several runs as one, models in order; commands are joined, the first machine is named.

    Raises:
        BridgeError: none, or a model on the same task set in two of them.
    """
    models = [one for part in parts for one in part.models]
    names = [(one.benchmark.model, one.data) for one in models]
    if not parts or len(set(names)) < len(names):
        raise BridgeError(f"each model counts once on a task set; got {names}")
    command = "; ".join(str(part.machine["command"]) for part in parts)
    return ClaimsResult(tuple(models), {**parts[0].machine, "command": command})
