"""Training of the linear connector between a frozen tower and a frozen language model."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vlm_bridge.data.items import Item
from vlm_bridge.data.picture import ImageRef
from vlm_bridge.model.vlm import VLM
from vlm_bridge.reference.assemble import fold_standardisation
from vlm_bridge.reference.connector import WORDINGS
from vlm_bridge.reference.recipe import PhotosRecipe, SpeechRecipe
from vlm_bridge.training import packing
from vlm_bridge.training.fit import fit
from vlm_bridge.training.frozen import cached_features
from vlm_bridge.training.scratch import packed_states

log = logging.getLogger(__name__)

_LOG_EVERY = 10
#: Penalty of the start, as a share of the variance of a channel.
_RIDGE = 0.1
#: Number of photos or recordings that the standardisation and the start are computed from.
_SOME = 2000


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
        ids = self.start["input_ids"][0]
        places = vlm.layout.modality_flags(ids).nonzero().flatten().tolist()
        self.head, self.placeholder = ids[: places[0]], ids[places[0]]

    def __call__(self, rows: Sequence[Sequence[Item]], projected: Iterable[Tensor]) -> Answered:
        """Answers about photos or recordings of which each has projected features (tokens, width).

        A greedy answer is right if and only if every token of the true answer, its end included,
        is the likeliest one behind those before it.
        """
        logits, labels, owners = self.logits(rows, projected)
        total = nn.functional.cross_entropy(logits, labels, reduction="sum")
        wrong = {
            owner
            for owner, same in zip(owners, (logits.argmax(-1) == labels).tolist(), strict=True)
            if not same
        }
        asked = [(i, k) for i, row in enumerate(rows) for k in range(1, len(row) + 1)]
        return Answered(total / len(asked), tuple(place not in wrong for place in asked))

    def logits(
        self, rows: Sequence[Sequence[Item]], projected: Iterable[Tensor]
    ) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """(tokens, vocabulary) logits and (tokens,) ids of all true answers with their ends.

        Last, the row of each token and the number of its question, from 1.
        """
        features = list(projected)
        head = len(self.head)
        lengths = [head + len(tokens) for tokens in features]
        prefix = max(lengths)
        packed = self.packer.pack(rows, lengths)
        ids = torch.cat([self.head, self.placeholder.expand(prefix - head)])
        places = torch.arange(prefix)
        filled = (places >= head) & (places < torch.tensor(lengths)[:, None])
        start = {**self.start, "input_ids": ids[None]}
        table = self.vlm.model.get_input_embeddings()
        states = packed_states(self.vlm, start, filled, packed, torch.cat(features), table)
        at = packed.labels != packing.IGNORED
        logits = self.vlm.model.get_output_embeddings()(states[:, prefix:][at]).float()
        numbers, columns = at.nonzero(as_tuple=True)
        questions = packed.blocks[numbers, prefix + columns]
        owners = list(zip(numbers.tolist(), questions.tolist(), strict=True))
        return logits, packed.labels[at], owners


def train_connector(
    vlm: VLM,
    items: Sequence[Item],
    recipe: PhotosRecipe | SpeechRecipe,
    folder: Path,
    transcripts: Iterable[Item] = (),
) -> dict[str, Tensor]:
    """Train the connector in `folder` (resumable); returns its weight and bias.

    The tower's output is standardised per channel by statistics of the training photos or
    recordings, which are folded into the connector at the end. Training starts from the map that
    is nearest, on these, to the answer to the first question about each; of recordings, to the
    words of their `transcripts` in turn. Tower and language model stay as they are.
    """
    torch.manual_seed(recipe.seed)
    rows_of = by_file(items)
    if isinstance(recipe, PhotosRecipe):
        rows_of = rows_of[: recipe.photos]
    features = cached_features(vlm, [row[0] for row in rows_of], folder / "tower.safetensors")
    tokens = features.each()
    some = torch.cat(tokens[:_SOME])
    mean, std = some.mean(0), some.std(0) + 1e-3
    vlm.model.requires_grad_(False)
    before_answer = WORDINGS[recipe.wording][1]
    speaks = isinstance(recipe, SpeechRecipe)
    of_file = {item.files: item for item in transcripts}
    first = [of_file[row[0].files] if speaks else row[0] for row in rows_of[:_SOME]]
    words_of = _words_in_turn if speaks else _mean_words
    words = words_of(vlm, first, features.lengths[:_SOME], before_answer)
    connector = _start_connector((some - mean) / std, words, as_far=speaks)
    answers = PackedAnswers(vlm, items[0], before_answer)
    sizes = features.lengths.tolist() if speaks else ()
    place = {row[0].files: number for number, row in enumerate(rows_of)}
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()

    def loss_at(step: int) -> Tensor:
        rows = packing.draw_rows(
            rows_of, recipe.learn.batch, recipe.questions_per_image, str(recipe.seed), step, sizes
        )
        seen = [tokens[place[row[0].files]] for row in rows]
        answered = answers(rows, [connector((one - mean) / std) for one in seen])
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


def by_file(items: Iterable[Item]) -> list[list[Item]]:
    """The items about each photo or recording, in their order."""
    rows: dict[tuple[ImageRef, ...], list[Item]] = {}
    for item in items:
        rows.setdefault(item.files, []).append(item)
    return list(rows.values())


@torch.no_grad()
def _start_connector(features: Tensor, words: Tensor, *, as_far: bool = False) -> nn.Linear:
    """The linear map of tokens to words by ridge regression.

    `features` is (tokens, channels), standardised; `words` is (tokens, width). What is regressed
    lies nearer to the mean word than the words do, and many tokens near one word confuse a language
    model: with `as_far` it is scaled to be as far from the mean.
    """
    x = features.double()
    mean = words.mean(0)
    y = (words - mean).double()
    gram = x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, x.T @ y)
    if as_far:
        weight *= y.norm() / (x @ weight).norm()
    connector = nn.Linear(x.shape[1], words.shape[1])
    connector.weight.copy_(weight.T)
    connector.bias.copy_(mean)
    return connector


@torch.no_grad()
def _mean_words(vlm: VLM, items: Sequence[Item], lengths: Tensor, before_answer: str) -> Tensor:
    """(tokens, width): at all tokens of a file the mean word embedding of its item's answer."""
    table, tokenizer = vlm.model.get_input_embeddings(), vlm.processor.tokenizer
    texts = [f"{before_answer}{item.answer}" for item in items]
    ids = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in set(texts)}
    means = {text: table(torch.tensor(tokens)).mean(0) for text, tokens in ids.items()}
    return torch.stack([means[text] for text in texts]).repeat_interleave(lengths, 0)


@torch.no_grad()
def _words_in_turn(vlm: VLM, items: Sequence[Item], lengths: Tensor, before_answer: str) -> Tensor:
    """(tokens, width): embedding of the word that is said at each token of each recording.

    A token of the transcript, which is the item's answer, is taken to last as long as its share of
    the letters.
    """
    table, tokenizer = vlm.model.get_input_embeddings(), vlm.processor.tokenizer
    said = []
    for item, count in zip(items, lengths.tolist(), strict=True):
        text = f"{before_answer}{item.answer}"
        ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
        letters = torch.tensor([len(tokenizer.decode([token])) for token in ids.tolist()])
        ends = letters.cumsum(0) / letters.sum()
        turns = torch.searchsorted(ends, (torch.arange(count) + 0.5) / count)
        said.append(ids[turns])
    embedded: Tensor = table(torch.cat(said))
    return embedded
