"""`skipit controls`: a plan beside plans of its size that no measurement chose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from vlm_bridge.cli.options import DataOptions, MaxNewTokens, ModelOptions, PlanWords
from vlm_bridge.cli.output import save, say
from vlm_bridge.cli.tables import controls_lines
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.certify import check_certifiable
from vlm_bridge.evaluate.controls import BANDS, compare_with_controls
from vlm_bridge.plan.controls import DRAWS
from vlm_bridge.plan.text import read_layers
from vlm_bridge.runtime.files import check_writable


def controls(
    model: ModelOptions,
    plan: PlanWords,
    data: DataOptions,
    draws: Annotated[int, Option(min=0, help="Random plans of the same size.")] = DRAWS,
    seed: Annotated[int, Option(min=0, help="Seed of the random plans.")] = 0,
    hold_out: Annotated[
        str,
        Option(
            help="Layers that random plans leave alone unless the plan skips them, as '0,1,28-29': "
            "those that are always fatal make any plan look good."
        ),
    ] = "",
    bands: Annotated[
        int,
        Option(min=0, help="Bands of layers in which text is made blind to the image; 0: none."),
    ] = BANDS,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    out: Annotated[Path, Option(help="Folder of results and checkpoints.")] = Path("out/controls"),
) -> Any:
    """Compare a plan with random plans and knockouts. Resumable.

    A plan that loses no more answers than random plans of its mode and size says little about
    which layers are redundant. Beside it stand --draws random plans, the plan that skips the
    deepest layers and, for pruning, the whole model on images with as few pixels as tokens are kept
    in the end.

    Attention knockout is the causal check: in one band of layers after another text does not see
    the image, while everything else runs as before. Where that changes no answer, the answers do
    not need what text reads of the image there.

    Prints a line for each, with interval by image, and a p-value: of plans drawn alike, how many
    would rank as high. Use questions that did not choose the plan. Writes controls.json.

    Example: `skipit controls reference "freeze layers=12-29" --data easy-vqa:test --limit 60`
    """
    check_writable(out / "controls.json")
    held_out = _layers_of(hold_out)
    items = data.items()
    vlm, skip_plan = model.load_with(plan)
    check_certifiable(vlm, skip_plan, items)
    found = compare_with_controls(
        vlm,
        items,
        skip_plan,
        folder=out / "checkpoints",
        draws=draws,
        bands=bands,
        seed=seed,
        held_out=held_out,
        batch_size=data.batch_size,
        max_new_tokens=max_new_tokens,
    )
    result = save(out / "controls.json", found.to_json())
    for line in controls_lines(found, vlm.layout.modality):
        say(line)
    say(f"controls: {out}/controls.json")
    return result


def _layers_of(words: str) -> tuple[int, ...]:
    """The layers in `--hold-out`."""
    try:
        return read_layers(words) if words else ()
    except ValueError as error:
        raise BridgeError(f"--hold-out {shown(words)} {error}") from None
