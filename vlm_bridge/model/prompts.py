"""Make model inputs from items: left padding, all questions of a unit together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.data import Item, check_one_cluster_per_image, open_image
from vlm_bridge.data.audio import read_audio
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.model.dialogue import prompt_text
from vlm_bridge.model.vlm import VLM

_FILES = {"image": "an image", "audio": "a recording", "text": "neither image nor recording"}
_PLURALS = {"image": "images", "audio": "recordings", "text": "questions alone"}
_BARE = (
    "the model does, and was given a tokenizer in place of its processor: wrap it with the whole "
    "processor, AutoProcessor.from_pretrained(...)"
)


@dataclass(frozen=True)
class Batch:
    """The model inputs of some items; `places` are their indices in all items."""

    items: tuple[Item, ...]
    places: tuple[int, ...]
    inputs: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        """What each sequence is about, for messages: its files and question."""
        return [item.name for item in self.items]


def batches(
    vlm: VLM, items: Sequence[Item], *, batch_size: int = 16, with_images: bool = True
) -> Iterator[Batch]:
    """Left-padded batches of at most `batch_size` items; a unit's questions stay together.

    A unit (an image, a recording, a text) with more than `batch_size` questions makes one larger
    batch, since statistics by unit need all of its questions in one batch. All items of a batch are
    of one kind. Without `with_images` prompts are text alone, without image and recording.

    Raises:
        BridgeError: there are no items, a picture, recording or text is in two clusters, a cluster
            has items of several kinds, the model takes no images or recordings, or `batch_size` is
            below 1.
    """
    if with_images:
        check_takes(vlm, items)
    for places in batch_places(items, batch_size):
        yield collate(vlm, items, places, with_images=with_images)


def batch_places(items: Sequence[Item], batch_size: int) -> list[list[int]]:
    """The indices of the items of each batch, as in `batches`."""
    check_batch_size(batch_size)
    if not items:
        raise BridgeError("there are no items to run on")
    check_one_cluster_per_image(items)
    by_image: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        by_image.setdefault(item.cluster, []).append(place)
    by_batch: list[list[int]] = []
    of_batch: tuple[str, ...] = ()
    for cluster, places in by_image.items():
        kinds, *others = dict.fromkeys(items[place].kinds for place in places)
        if others:
            both = f"{' and '.join(kinds)} and items about {' and '.join(others[0])}"
            raise BridgeError(
                f"cluster {shown(cluster)} has items about {both}; a batch cannot mix them: give "
                "them clusters of their own"
            )
        full = not by_batch or len(by_batch[-1]) + len(places) > batch_size
        if full or kinds != of_batch:
            by_batch.append([])
        by_batch[-1] += places
        of_batch = kinds
    return by_batch


def check_batch_size(batch_size: object) -> None:
    """Raise a `BridgeError` unless a batch may hold at least one question."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise BridgeError(
            f"batch_size is a whole number of questions, at least 1, got {shown(batch_size)}"
        )


def collate(
    vlm: VLM, items: Sequence[Item], places: Sequence[int], *, with_images: bool = True
) -> Batch:
    """The model inputs of the items at `places`, on the device of the model."""
    chosen = [items[place] for place in places]
    kinds = {kind for item in chosen for kind in item.kinds} if with_images else {"text"}
    if vlm.layout.encoder_decoder:
        encoded = _for_encoder(vlm, chosen, kinds)
    else:
        texts = [prompt_text(vlm.processor, item, kinds) for item in chosen]
        if vlm.processor is vlm.tokenizer:
            encoded = _tokenized(vlm.tokenizer, texts)
        else:
            encoded = _processed(vlm.processor, chosen, texts, kinds)
    accepted = set(signature(vlm.model.forward).parameters) - {"labels"}
    inputs = {
        name: value.to(vlm.model.dtype) if value.is_floating_point() else value
        for name, value in ((n, v.to(vlm.device)) for n, v in encoded.items() if n in accepted)
    }
    return Batch(tuple(chosen), tuple(places), inputs)


def _tokenized(tokenizer: Any, texts: Sequence[str]) -> dict[str, Tensor]:
    """Left-padded ids and mask; a tokenizer without padding token pads with its end of text.

    The mask hides what stands there, so that any token would do, and the tokenizer stays as it is.
    """
    ids = [tokenizer(text, **_special(tokenizer, texts))["input_ids"] for text in texts]
    named = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    filler = next(token for token in named if token is not None)
    length = max(map(len, ids))
    return {
        "input_ids": torch.tensor([[filler] * (length - len(row)) + row for row in ids]),
        "attention_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids]),
    }


def _special(tokenizer: Any, texts: Sequence[str]) -> dict[str, bool]:
    """No further special tokens where the chat template has added the first one already."""
    start = tokenizer.bos_token
    return {"add_special_tokens": False} if start and texts[0].startswith(start) else {}


def _processed(
    processor: Any, items: Sequence[Item], texts: Sequence[str], kinds: Collection[str]
) -> dict[str, Tensor]:
    options: dict[str, Any] = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
    options |= _special(processor.tokenizer, texts)
    if "image" in kinds:
        options["images"] = [[open_image(image) for image in item.images] for item in items]
    if "audio" in kinds:
        rate = int(processor.feature_extractor.sampling_rate)
        most = getattr(processor.feature_extractor, "n_samples", None)
        sounds = [_sound(item, rate, most) for item in items]
        options |= {"audio": sounds, "sampling_rate": rate}
    try:
        encoded: Any = processor(text=list(texts), **options)
    except ValueError as error:
        raise BridgeError(
            f"{type(processor).__name__} cannot make a prompt {_with(kinds)}: {error}"
        ) from error
    return {name: value for name, value in encoded.items() if isinstance(value, Tensor)}


def _for_encoder(vlm: VLM, items: Sequence[Item], kinds: Collection[str]) -> dict[str, Tensor]:
    """The inputs of an encoder: a recording without its question, or the question as it is."""
    if "audio" not in vlm.layout.encoders:
        questions = [_alone(vlm, item) for item in items]
        return dict(vlm.tokenizer(questions, return_tensors="pt", padding=True))
    if "audio" not in kinds:
        raise BridgeError(
            f"{type(vlm.model).__name__} reads nothing but recordings, so that it cannot be asked "
            "without one"
        )
    extractor = vlm.processor.feature_extractor
    rate, most = int(extractor.sampling_rate), getattr(extractor, "n_samples", None)
    sounds = [_sound(item, rate, most) for item in items]
    return dict(extractor(sounds, sampling_rate=rate, return_tensors="pt"))


def _alone(vlm: VLM, item: Item) -> str:
    """The question of an encoder-decoder, which reads one text and no dialogue."""
    if item.turns:
        raise BridgeError(
            f"{type(vlm.model).__name__} reads one text, and {shown(item.question)} has earlier "
            "turns; put them into the question"
        )
    return item.question


def _sound(item: Item, rate: int, most: int | None) -> Any:
    """(samples,) at `rate`; one of more than `most` samples, which would be cut, is refused."""
    assert item.audio is not None
    samples = read_audio(item.audio, rate)
    if most is not None and len(samples) > most:
        raise BridgeError(
            f"the audio file {item.audio} lasts {len(samples) / rate:.6g} s, and the model's "
            f"feature extractor reads {most / rate:g} s; cut it into several"
        )
    return samples


def check_takes(vlm: VLM, items: Iterable[Item]) -> None:
    """Raise a `BridgeError` for an item about an image or recording that the model cannot take."""
    taken = {
        "image": hasattr(vlm.processor, "image_processor"),
        "audio": hasattr(vlm.processor, "feature_extractor")
        and "audio" in signature(type(vlm.processor).__call__).parameters,
    }
    if vlm.layout.encoder_decoder:
        hears = "audio" in vlm.layout.encoders
        reads = hears and hasattr(vlm.processor, "feature_extractor")
        taken = {"image": False, "audio": reads, "text": not hears}
    for item in items:
        for kind in item.kinds:
            if not taken.get(kind, True):
                own = getattr(vlm.layout, f"{kind}_ids", ())
                bare = own and vlm.processor is vlm.tokenizer
                raise BridgeError(
                    f"{type(vlm.model).__name__} with {type(vlm.processor).__name__} takes no "
                    f"{_PLURALS[kind]}, and the question {shown(item.question)} is about "
                    f"{_FILES[kind]}; {_BARE if bare else 'leave it out, or choose another model'}"
                )


def _with(kinds: Collection[str]) -> str:
    found = [words for kind, words in _FILES.items() if kind in kinds and kind != "text"]
    return f"with {' and '.join(found)}" if found else "without an image"
