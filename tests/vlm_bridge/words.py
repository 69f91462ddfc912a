"""Processors that write ids as numbers."""

from __future__ import annotations

from transformers import WhisperFeatureExtractor


class Words:
    """A processor as far as answers need one."""

    all_special_ids = (0, 1, 2)

    @property
    def tokenizer(self):
        return self

    def __len__(self):
        return 40

    def get_vocab(self):
        return {str(i): i for i in range(40)}

    def batch_decode(self, ids, skip_special_tokens):
        return [" ".join(str(i) for i in row if i > 2) for row in ids.tolist()]

    def decode(self, ids, skip_special_tokens=False):
        return " ".join(str(i) for i in ids if i > 2 or not skip_special_tokens)

    def encode(self, text, add_special_tokens):
        return [int(word) for word in text.split()]


class Hearing(Words):
    """A processor of recordings of at most a second, as 16 frames of 8 mel bins."""

    feature_extractor = WhisperFeatureExtractor(
        feature_size=8, hop_length=1000, n_fft=1000, chunk_length=1
    )
