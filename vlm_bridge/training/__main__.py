"""`python -m vlm_bridge.training`: train, evaluate or list the reference models."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import load
from vlm_bridge.reference import shipped
from vlm_bridge.reference.connector import WORDINGS
from vlm_bridge.reference.recipe import RECIPES, AnyRecipe, ConnectorRecipe, may_ship
from vlm_bridge.runtime.files import new_folder
from vlm_bridge.training.card import write_card
from vlm_bridge.training.evaluate import evaluate as run_evaluation
from vlm_bridge.training.evaluate import task_sets, trained_answers, write_answers
from vlm_bridge.training.train import train as run_training

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train, evaluate or list the reference models.",
)


@app.command("list")
def list_models() -> None:
    """List the reference models; `*` marks installed weights."""
    installed = shipped.shipped_models()
    for name in RECIPES:
        typer.echo(f"{'*' if name in installed else ' '} {name}")


@app.command()
def train(
    name: Annotated[str, Argument(help="Model to train; see `list`.")] = "reference",
    out: Annotated[Path | None, Option(help="Output folder (default: out/NAME).")] = None,
    install: Annotated[
        bool, Option("--install", help="Copy the result to the shipped weights.")
    ] = False,
    save: Annotated[
        bool, Option("--save", help="Also write the whole model, as a folder that `load` takes.")
    ] = False,
    seed: Annotated[int | None, Option(help="Another seed than the recipe's.")] = None,
    wording: Annotated[
        str | None, Option(help=f"Of the prompts of *-smollm2: {' or '.join(WORDINGS)}.")
    ] = None,
    language_model: Annotated[
        Path | None, Option(help="Folder of another language model for *-smollm2.")
    ] = None,
) -> None:
    """Train a reference model and evaluate it.

    Training takes up to an hour on two cores and is seeded; the evaluation uses the model's test
    questions. A killed run continues from its last checkpoint when the same command is given again.

    Example: python -m vlm_bridge.training train reference-smolvlm
    """
    recipe = changed(RECIPES[shipped.check_name(name)], seed, wording, language_model)
    if install and not may_ship(recipe):
        raise BridgeError(
            f"{name} is trained on recordings under CC-BY-SA-3.0, a licence that asks for the same "
            "licence, so its parts are not shipped; leave out --install"
        )
    if install and recipe != RECIPES[name]:
        raise BridgeError("--install ships the model of the recipe; leave out the other options")
    out = Path("out") / name if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.FileHandler(out / "train.log", delay=True), logging.StreamHandler()],
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    vlm = run_training(name, out, recipe)
    if save:
        with new_folder(out / "model") as partial:
            vlm.model.save_pretrained(partial)
            vlm.processor.save_pretrained(partial)
    evaluations = [run_evaluation(vlm, name, task, recipe) for task in task_sets(name)]
    for evaluation in evaluations:
        summary = json.dumps(evaluation.summary())
        logging.getLogger(__name__).info("%s %s", evaluation.task, summary)
    write_answers(out, evaluations)
    write_card(out, name, evaluations, recipe)
    if install:
        shipped.weights_folder().mkdir(exist_ok=True)
        for file in (shipped.PARTS, shipped.ANSWERS, shipped.CARD):
            shutil.copyfile(out / file, shipped.weights_folder() / shipped.file_name(name, file))


def changed(
    recipe: AnyRecipe, seed: int | None, wording: str | None, language_model: Path | None
) -> AnyRecipe:
    """A recipe with the settings that are not None."""
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    if wording is None and language_model is None:
        return recipe
    if not isinstance(recipe, ConnectorRecipe):
        raise BridgeError(
            "--wording and --language-model are settings of photos-smollm2 and speech-smollm2 alone"
        )
    if wording is not None and wording not in WORDINGS:
        raise BridgeError(f"no wording '{wording}'; there are {', '.join(WORDINGS)}")
    return replace(
        recipe,
        wording=wording or recipe.wording,
        language_model="" if language_model is None else str(language_model),
    )


@app.command()
def evaluate(
    names: Annotated[
        list[str] | None, Argument(help="Models (default: those that need nothing fetched).")
    ] = None,
) -> None:
    """Evaluate shipped models on their test questions.

    Prints JSON: accuracy, baselines without vision, and the number of answers that differ from
    those of the training process.

    Example: python -m vlm_bridge.training evaluate reference reference-smolvlm
    """
    summaries: dict[str, dict[str, Any]] = {}
    for name in names or shipped.complete_models():
        trained, vlm = trained_answers(name), load(shipped.check_name(name))
        summaries[name] = {}
        for task in task_sets(name):
            again = run_evaluation(vlm, name, task)
            before = trained[task]["answers"]
            differ = sum(a != b for a, b in zip(before, again.answers, strict=True))
            summaries[name][task] = {**again.summary(), "answers_that_differ_from_training": differ}
    typer.echo(json.dumps(summaries, indent=1))


if __name__ == "__main__":
    try:
        app()
    except BridgeError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
