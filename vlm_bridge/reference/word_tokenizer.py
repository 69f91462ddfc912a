"""A tokenizer of whole words: all that the two task sets say, and nothing else."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

#: Every word of a question or an answer, of both sets, and the chat's own.
WORDS = (
    "user assistant : ? a above are black blue brown circle circles color contain crosses cross "
    "does dot five four gray green how image in is left many no not object objects of one present "
    "purple rectangle red shape six square squares teal the there three triangle triangles two "
    "what yellow yes zero"
).split()
PAD, EOS, UNKNOWN, IMAGE = "<pad>", "<eos>", "<unk>", "<image>"


def word_tokenizer(image: str, *special: str, **named: str) -> PreTrainedTokenizerFast:
    """Words and special tokens as ids; the first four are padding, end, unknown and image.

    Args:
        image: the placeholder of a vision token.
        special: further special tokens, in the order of their ids.
        named: those of them that a processor looks up by a name of its own.
    """
    first = [PAD, EOS, UNKNOWN, image, *special]
    vocabulary = {word: number for number, word in enumerate([*first, *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens=named,
    )
    made.add_special_tokens({"additional_special_tokens": [image, *special]})
    return made
