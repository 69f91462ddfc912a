"""A tokenizer whose vocabulary is the words of the two task sets."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

#: Every word of the questions, the answers and the chat template.
WORDS = (
    "user assistant : ? a above are black blue brown circle circles color contain crosses cross "
    "does dot five four gray green how image in is left many no not object objects of one present "
    "purple rectangle red shape six square squares teal the there three triangle triangles two "
    "what yellow yes zero"
).split()
PAD, EOS, UNKNOWN, IMAGE = "<pad>", "<eos>", "<unk>", "<image>"


def word_tokenizer(
    image: str, *special: str, words: Sequence[str] = (), **named: str
) -> PreTrainedTokenizerFast:
    """The tokenizer; ids: padding, end, unknown, `image` (of vision tokens), `special`, words.

    `words` come behind the others, so that those keep their ids; with them, decoded text has no
    space before a comma or a full stop. `named` are special tokens that a processor looks up, by
    the name it uses.
    """
    first = [PAD, EOS, UNKNOWN, image, *special]
    vocabulary = {word: number for number, word in enumerate([*first, *WORDS, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if words:
        core.decoder = decoders.WordPiece(cleanup=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens=named,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [image, *special]})
    return tokenizer
