"""`python -m vlm_bridge.reference train | evaluate`."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.errors import BridgeError
from vlm_bridge.layout import find_layout
from vlm_bridge.reference.card import write_card
from vlm_bridge.reference.evaluate import evaluate as run_evaluation
from vlm_bridge.reference.evaluate import trained_answers, write_answers
from vlm_bridge.reference.recipe import RECIPE
from vlm_bridge.reference.train import PARTS
from vlm_bridge.reference.train import train as run_training
from vlm_bridge.vlm import VLM, load

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Checkpoints, log and the result.")] = Path(
        "out/reference"
    ),
    install: Annotated[
        bool, typer.Option(help="Put the result where the package ships it from.")
    ] = False,
) -> None:
    """Train the reference VLM (about an hour on two cores), then answer the test questions.

    Seeded; killed at any time, the same command continues from the last checkpoint.

    Example: python -m vlm_bridge.reference train --out out/reference
    """
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.FileHandler(out / "train.log"), logging.StreamHandler()],
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    model, processor = run_training(out, RECIPE)
    special = tuple(processor.tokenizer.all_special_ids)
    vlm = VLM("reference", model, processor, find_layout(model, special))
    evaluation = run_evaluation(vlm)
    logging.getLogger(__name__).info("%s", json.dumps(evaluation.summary()))
    write_answers(out, evaluation)
    write_card(out, RECIPE, evaluation)
    if install:
        weights = Path(__file__).parent / "weights"
        weights.mkdir(exist_ok=True)
        for name in (PARTS, "answers.json", "MODEL_CARD.md"):
            shutil.copyfile(out / name, weights / name)


@app.command()
def evaluate() -> None:
    """Answer all 9,673 test questions with the shipped reference VLM, in this fresh process.

    Prints accuracy beside the blind baseline and the VLM without vision, and how many
    answers differ from those of the training process.

    Example: python -m vlm_bridge.reference evaluate
    """
    trained = trained_answers()
    evaluation = run_evaluation(load("reference"))
    differ = sum(a != b for a, b in zip(trained["answers"], evaluation.answers, strict=True))
    summary = {**evaluation.summary(), "answers_that_differ_from_training": differ}
    typer.echo(json.dumps(summary, indent=1))


if __name__ == "__main__":
    try:
        app()
    except BridgeError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
