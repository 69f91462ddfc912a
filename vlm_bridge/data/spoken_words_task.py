"""Real recordings (telephone prompts, CC-BY-SA-3.0) with questions about which word is said.

"is 'please' said?" and "which is said, 'press', 'number' or 'please'?". In every split each word
is asked about as often where it is said as where it is not, and each three words are asked about
once where the first alone is said, once the second and once the third. So the best guess from the
text of the question is right in 1/2 and 1/3 of the two forms.
"""

from __future__ import annotations

import random
import wave
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from vlm_bridge.data.items import Item
from vlm_bridge.data.recordings_task import recordings
from vlm_bridge.errors import BridgeError

_DATA = "spoken-prompts"
#: split -> the splits of the prompts whose recordings it takes; only `train` trains models.
SPOKEN_WORDS_SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "profile", "tuning", "certification"),
    "test": ("test",),
}
#: The words asked about; their number is a multiple of three.
WORDS = (
    "again",
    "audio",
    "call",
    "conference",
    "enter",
    "extension",
    "key",
    "message",
    "number",
    "person",
    "please",
    "pound",
    "press",
    "this",
    "tone",
    "try",
    "volume",
    "your",
)
#: Longest recording that is asked about, in seconds.
LONGEST = 8.0
#: How often the words are cut into threes anew.
_ROUNDS = {"train": 18, "test": 12}
_SEED = 80_000


def spoken_words(split: str) -> list[Item]:
    """The items of `train` or `test`, ordered by recording.

    Recordings of the same words are one cluster, which lies in one split: `train` asks 570 times
    whether a word is said and 255 times which is, about 167 recordings of 148 clusters; `test` asks
    280 and 204 times about 78 recordings of 73 clusters.

    Raises:
        BridgeError: unknown split, or the spoken prompts are not fetched.

    Example:
        >>> spoken_words("test")[0].question  # doctest: +SKIP
        "is 'please' said?"
    """
    if split not in SPOKEN_WORDS_SPLITS:
        names = ", ".join(SPOKEN_WORDS_SPLITS)
        raise BridgeError(f"spoken-words has no split '{split}'; it has {names}")
    clips = short_recordings(split)
    asking = _Asking(clips, random.Random(f"{_SEED}/{split}"))
    asked = [*asking.whether(), *asking.which(_ROUNDS[split])]
    return [
        Item(None, question, answer, clips[place].cluster, audio=clips[place].audio)
        for place, question, answer in sorted(asked, key=itemgetter(0))
    ]


def short_recordings(split: str) -> list[Item]:
    """The recordings of a split up to `LONGEST`, each with its transcript; errors as above."""
    found = [item for part in SPOKEN_WORDS_SPLITS[split] for item in recordings(_DATA, part)]
    return [item for item in found if _seconds(item) <= LONGEST]


def _seconds(item: Item) -> float:
    assert item.audio is not None
    with wave.open(str(item.audio)) as clip:
        return float(clip.getnframes() / clip.getframerate())


@dataclass
class _Asking:
    """Draws the recordings to ask about; those asked about least come first."""

    clips: Sequence[Item]
    draw: random.Random
    count: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        #: of each recording, the words of `WORDS` that it says.
        self.said = [set(clip.cluster.split()) & set(WORDS) for clip in self.clips]

    def _take(self, places: Sequence[int]) -> int:
        """One of some recordings."""
        place = min(places, key=lambda place: (self.count[place], self.draw.random()))
        self.count[place] += 1
        return place

    def whether(self) -> Iterator[tuple[int, str, str]]:
        """(recording, question, answer): each word where it is said, and as often elsewhere."""
        for word in WORDS:
            having = [place for place, said in enumerate(self.said) if word in said]
            lacking = [place for place, said in enumerate(self.said) if word not in said]
            for place in having:
                self.count[place] += 1
                other = self._take(lacking)
                lacking.remove(other)
                yield place, f"is '{word}' said?", "yes"
                yield other, f"is '{word}' said?", "no"

    def which(self, rounds: int) -> Iterator[tuple[int, str, str]]:
        """The same of the second form: three words, of which a recording says the answer alone."""
        before = set()
        for _ in range(rounds):
            words = self.draw.sample(WORDS, len(WORDS))
            for three in zip(words[::3], words[1::3], words[2::3], strict=True):
                saying = [self._saying(word, three) for word in three]
                if not all(saying) or frozenset(three) in before:
                    continue
                before.add(frozenset(three))
                a, b, c = (f"'{word}'" for word in three)
                for word, places in zip(three, saying, strict=True):
                    yield self._take(places), f"which is said, {a}, {b} or {c}?", word

    def _saying(self, word: str, three: Sequence[str]) -> list[int]:
        """The recordings that say `word` and no other of `three`."""
        return [place for place, said in enumerate(self.said) if said & set(three) == {word}]
