"""The data sets of others in the catalogue."""

from __future__ import annotations

from vlm_bridge.third_party.entry import Archive, Entry, Member

_FASHION = "usr/share/datasets/fashion-mnist/"
_PROMPTS = "usr/share/asterisk/sounds/en_US_f_Allison/"
_LIBRIVOX = "usr/share/pocketsphinx/test/data/librivox/"

DATA_SETS = (
    Entry(
        name="fashion-photos",
        kind="data",
        what="Fashion-MNIST: 70,000 grey photos of products, 28 x 28, ten classes",
        licence="MIT",
        licence_source="Debian's copyright file: Expat (MIT), copyright 2017 Zalando SE.",
        maker="Zalando Research",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        attribution="Fashion-MNIST by Zalando Research (MIT), from the Debian package "
        "dataset-fashion-mnist",
        conversion="fashion",
        content="The four files of the original data set, unchanged: 60,000 photos of `train`, "
        "10,000 of `test`.",
        archives=(
            Archive(
                package="dataset-fashion-mnist",
                version="0.0~git20200523.55506a9-1",
                file="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
                sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                size=30900652,
                pool="pool/main/d/dataset-fashion-mnist",
                members=(
                    Member(
                        f"{_FASHION}train-images-idx3-ubyte.gz",
                        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                        26421856,
                    ),
                    Member(
                        f"{_FASHION}train-labels-idx1-ubyte.gz",
                        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                        29491,
                    ),
                    Member(
                        f"{_FASHION}t10k-images-idx3-ubyte.gz",
                        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                        4422079,
                    ),
                    Member(
                        f"{_FASHION}t10k-labels-idx1-ubyte.gz",
                        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                        5125,
                    ),
                ),
            ),
        ),
    ),
    Entry(
        name="spoken-prompts",
        kind="data",
        what="265 telephone prompts of one English speaker, with transcripts",
        licence="CC-BY-SA-3.0",
        licence_source="Debian's copyright file: CC-BY-SA-3.0, copyright 2003-2010 Allison Smith. "
        "Its credits: recorded by Allison Smith, financial contributions by Digium, Inc.",
        maker="Recorded by Allison Smith (http://www.theivrvoice.com) for Digium, Inc.",
        origin="http://downloads.asterisk.org/pub/telephony/asterisk/",
        attribution="Asterisk core sounds 1.6.1 (http://downloads.asterisk.org/pub/telephony/"
        "asterisk/), copyright 2003-2010 Allison Smith, recorded for Digium, Inc., under "
        "CC-BY-SA-3.0 (https://creativecommons.org/licenses/by-sa/3.0/), resampled from 8 to 16 "
        "kHz",
        conversion="prompts",
        content="The prompts of three words or more, of 30 s at most, in 16 kHz, and "
        "`manifest.jsonl`. Changed: resampled from 8 kHz, so nothing lies above 4 kHz. The "
        "licence asks that what is derived from them be shared under the same licence.",
        archives=(
            Archive(
                package="asterisk-core-sounds-en-wav",
                version="1.6.1-1",
                file="asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
                sha256="2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
                size=18272864,
                pool="pool/main/a/asterisk-core-sounds",
                members=(
                    Member(
                        f"{_PROMPTS}*.wav",
                        "6c486c66f9f96efd3619c854e45036064d5fb8b830b279ed370774e1c2283946",
                        24484548,
                    ),
                ),
            ),
            Archive(
                package="asterisk-core-sounds-en",
                version="1.6.1-1",
                file="asterisk-core-sounds-en_1.6.1-1_all.deb",
                sha256="973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
                size=22844,
                pool="pool/main/a/asterisk-core-sounds",
                members=(
                    Member(
                        "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz",
                        "436538195b7c7361bd227036686f1a4039f694648c76573bdaca956655d34450",
                        8558,
                    ),
                ),
            ),
        ),
    ),
    Entry(
        name="librivox",
        kind="data",
        what="5 sentences of Sense and Sensibility read aloud, with transcripts",
        licence="BSD-2-Clause",
        licence_source="Debian's copyright file puts all files under the BSD licence with two "
        "clauses, copyright 1995-2014 Carnegie Mellon University. It does not name LibriVox, "
        "whose recordings are in the public domain.",
        maker="A reader of LibriVox; cut and transcribed by the authors of CMU Sphinx",
        origin="http://cmusphinx.sourceforge.net/",
        attribution="Sentences of Sense and Sensibility from LibriVox, cut by CMU Sphinx "
        "(BSD-2-Clause), from the Debian package pocketsphinx-testdata",
        conversion="librivox",
        content="The five clips in 16 kHz and `manifest.jsonl`.",
        archives=(
            Archive(
                package="pocketsphinx-testdata",
                version="0.8+5prealpha+1-15",
                file="pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb",
                sha256="eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
                size=1822580,
                pool="pool/main/p/pocketsphinx",
                members=(
                    Member(
                        f"{_LIBRIVOX}*.wav",
                        "06a8b29f04a1df605e0ce71a129fc8c319fefe40f25d4da185dda4de7dd8d74c",
                        791580,
                    ),
                    Member(
                        f"{_LIBRIVOX}transcription",
                        "4cc29e04a6dcd29242893b3ee20470e50b6ace45f4387bb619e5218145c66f99",
                        634,
                    ),
                ),
            ),
        ),
    ),
)
