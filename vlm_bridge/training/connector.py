"""Training of the linear connector between a frozen vision tower and a frozen language model."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vlm_bridge.data.items import Item, by_image
from vlm_bridge.model.vlm import VLM
from vlm_bridge.reference.assemble import fold_standardisation
from vlm_bridge.reference.connector import WORDINGS
from vlm_bridge.reference.recipe import ConnectorRecipe
from vlm_bridge.runtime.files import write_bytes
from vlm_bridge.runtime.progress import track
from vlm_bridge.training import packing
from vlm_bridge.training.fit import fit
from vlm_bridge.training.scratch import packed_states

log = logging.getLogger(__name__)

_LOG_EVERY = 10
_IN_BATCH = 50  #: photos in a batch of the tower
#: Penalty of the start, as a share of the variance of a channel.
_RIDGE = 0.1


@dataclass(frozen=True)
class Answered:
    """The loss of a batch of packed questions, and which of them are answered right, in order."""

    loss: Tensor  # cross-entropy of the answer, summed over its tokens, mean over questions
    right: tuple[bool, ...]  # the greedy answer up to its end is the true one


class PackedAnswers:
    """Answers to packed questions from features of a frozen tower, through a connector."""

    def __init__(self, vlm: VLM, example: Item, before_answer: str) -> None:
        self.vlm = vlm
        self.packer = packing.Packer(vlm, before_answer)
        self.start = self.packer.start(example)
        self.prefix = self.start["input_ids"].shape[1]
        self.vision = vlm.layout.modality_flags(self.start["input_ids"][0])

    def __call__(self, rows: Sequence[Sequence[Item]], projected: Tensor) -> Answered:
        """Answers about photos whose projected features are (photos, tokens, width).

        A greedy answer is right if and only if every token of the true answer, its end included,
        is the likeliest one behind those before it.
        """
        packed = self.packer.pack(rows, self.prefix)
        table = self.vlm.model.get_input_embeddings()
        states = packed_states(self.vlm, self.start, self.vision, packed, projected, table)
        at = packed.labels != packing.IGNORED
        labels = packed.labels[at]
        logits = self.vlm.model.get_output_embeddings()(states[:, self.prefix :][at]).float()
        total = nn.functional.cross_entropy(logits, labels, reduction="sum")
        owners = zip(*_owners(packed, at, self.prefix), strict=True)
        wrong = {
            owner
            for owner, same in zip(owners, (logits.argmax(-1) == labels).tolist(), strict=True)
            if not same
        }
        asked = [(i, k) for i, row in enumerate(rows) for k in range(1, len(row) + 1)]
        return Answered(total / len(asked), tuple(place not in wrong for place in asked))


def _owners(packed: packing.Packed, at: Tensor, prefix: int) -> tuple[list[int], list[int]]:
    """Photo and number of the question of every answer token."""
    rows, columns = at.nonzero(as_tuple=True)
    return rows.tolist(), packed.blocks[rows, prefix + columns].tolist()


@torch.no_grad()
def tower_features(vlm: VLM, clusters: Sequence[Sequence[Item]]) -> Tensor:
    """(photos, tokens, channels) float16: what the frozen tower sees in each photo."""
    tower = vlm.layout.base.vision_tower
    chunks = []
    with track("features", len(clusters)) as advance:
        for first in range(0, len(clusters), _IN_BATCH):
            photos = [row[0].open() for row in clusters[first : first + _IN_BATCH]]
            pixels = vlm.processor.image_processor(photos, return_tensors="pt")["pixel_values"]
            chunks.append(tower(pixels).last_hidden_state.to(torch.float16))  # type: ignore[operator]
            advance(len(photos))
    return torch.cat(chunks)


def train_connector(
    vlm: VLM, items: Sequence[Item], recipe: ConnectorRecipe, folder: Path
) -> dict[str, Tensor]:
    """Train the connector in `folder` (resumable); returns its weight and bias.

    The tower's output is standardised per channel by statistics of the training photos, which are
    folded into the connector at the end. Training starts from the map that is nearest, on these
    photos, to the word that answers the first question about each. Tower and language model stay
    as they are.
    """
    torch.manual_seed(recipe.seed)
    clusters = by_image(items)[: recipe.photos]
    features = _cached_features(vlm, clusters, folder / "features.safetensors")
    some = features[:2000].float()
    mean, std = some.mean((0, 1)), some.std((0, 1)) + 1e-3
    vlm.model.requires_grad_(False)
    before_answer = WORDINGS[recipe.wording][1]
    words = _words(vlm, clusters[: len(some)], before_answer)
    connector = _start_connector((some - mean) / std, words)
    answers = PackedAnswers(vlm, items[0], before_answer)
    place = {row[0].cluster: number for number, row in enumerate(clusters)}
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()

    def loss_at(step: int) -> Tensor:
        rows = packing.draw_rows(
            clusters, recipe.learn.batch, recipe.questions_per_image, str(recipe.seed), step
        )
        seen = features[[place[row[0].cluster] for row in rows]].float()
        answered = answers(rows, connector((seen - mean) / std))
        for item, good in zip((i for row in rows for i in row), answered.right, strict=True):
            form = item.question.split()[0].strip(",?")
            right[form] += good
            asked[form] += 1
        if (step + 1) % _LOG_EVERY == 0:
            shares = ", ".join(f"'{form} ...' {right[form] / n:.3f}" for form, n in asked.items())
            log.info("answers right before their steps: %s", shares)
            right.clear()
            asked.clear()
        return answered.loss

    parameters = dict(connector.named_parameters())
    checkpoint = folder / "connector.checkpoint.safetensors"
    fit(parameters, loss_at, recipe.learn, checkpoint, title="connector", log_every=_LOG_EVERY)
    weight, bias = fold_standardisation(connector, mean, std)
    return {"connector.weight": weight.detach(), "connector.bias": bias.detach()}


@torch.no_grad()
def _start_connector(features: Tensor, words: Tensor) -> nn.Linear:
    """The linear map of tokens to the word for their photo, by ridge regression.

    `features` is (photos, tokens, channels), standardised; `words` is (photos, width).
    """
    x = features.flatten(0, 1).double()
    mean = words.mean(0)
    y = (words - mean).repeat_interleave(features.shape[1], 0).double()
    gram = x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    connector = nn.Linear(x.shape[1], words.shape[1])
    connector.weight.copy_(torch.linalg.solve(gram, x.T @ y).T)
    connector.bias.copy_(mean)
    return connector


@torch.no_grad()
def _words(vlm: VLM, clusters: Sequence[Sequence[Item]], before_answer: str) -> Tensor:
    """(photos, width): mean word embedding of the answer to the first question about each photo."""
    table, tokenizer = vlm.model.get_input_embeddings(), vlm.processor.tokenizer
    texts = [f"{before_answer}{row[0].answer}" for row in clusters]
    ids = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in set(texts)}
    means = {text: table(torch.tensor(tokens)).mean(0) for text, tokens in ids.items()}
    return torch.stack([means[text] for text in texts])


def _cached_features(vlm: VLM, clusters: Sequence[Sequence[Item]], path: Path) -> Tensor:
    """The features of the training photos, computed once."""
    if not path.is_file():
        write_bytes(path, save({"features": tower_features(vlm, clusters)}))
    return load_file(path)["features"]
