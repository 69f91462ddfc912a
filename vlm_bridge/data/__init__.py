"""Questions about images, recordings or texts: items, task sets and their splits."""

from __future__ import annotations

from collections.abc import Callable

from vlm_bridge.data.descriptions_task import DESCRIPTIONS_SPLITS as DESCRIPTIONS_SPLITS
from vlm_bridge.data.descriptions_task import descriptions as descriptions
from vlm_bridge.data.disjoint import check_disjoint as check_disjoint
from vlm_bridge.data.disjoint import image_ids as image_ids
from vlm_bridge.data.disjoint import overlap as overlap
from vlm_bridge.data.easy_vqa_task import EASY_VQA_SPLITS as EASY_VQA_SPLITS
from vlm_bridge.data.easy_vqa_task import easy_vqa as easy_vqa
from vlm_bridge.data.easy_vqa_task import easy_vqa_folder as easy_vqa_folder
from vlm_bridge.data.fashion_photos_task import FASHION_PHOTOS_SPLITS as FASHION_PHOTOS_SPLITS
from vlm_bridge.data.fashion_photos_task import fashion_photos as fashion_photos
from vlm_bridge.data.image import image_hash as image_hash
from vlm_bridge.data.image import read_image as read_image
from vlm_bridge.data.items import TRANSCRIBE as TRANSCRIBE
from vlm_bridge.data.items import Item as Item
from vlm_bridge.data.items import about_other as about_other
from vlm_bridge.data.items import with_images as with_images
from vlm_bridge.data.jsonl import read_jsonl as read_jsonl
from vlm_bridge.data.noise import noise_items as noise_items
from vlm_bridge.data.picture import ImageRef as ImageRef
from vlm_bridge.data.picture import Picture as Picture
from vlm_bridge.data.picture import content_of as content_of
from vlm_bridge.data.picture import open_image as open_image
from vlm_bridge.data.python_docs_task import PYTHON_DOCS_SPLITS as PYTHON_DOCS_SPLITS
from vlm_bridge.data.python_docs_task import python_docs as python_docs
from vlm_bridge.data.recordings_task import SPLITS as RECORDINGS_SPLITS
from vlm_bridge.data.recordings_task import librivox as librivox
from vlm_bridge.data.recordings_task import spoken_prompts as spoken_prompts
from vlm_bridge.data.scenes_task import HELD_OUT as HELD_OUT
from vlm_bridge.data.scenes_task import SCENES_SPLITS as SCENES_SPLITS
from vlm_bridge.data.scenes_task import scenes as scenes
from vlm_bridge.data.scenes_task import shows_held_out as shows_held_out
from vlm_bridge.data.spoken_words_task import SPOKEN_WORDS_SPLITS as SPOKEN_WORDS_SPLITS
from vlm_bridge.data.spoken_words_task import spoken_words as spoken_words
from vlm_bridge.data.tables import items_from as items_from
from vlm_bridge.data.turns import Turn as Turn
from vlm_bridge.data.units import check_one_cluster_per_image as check_one_cluster_per_image
from vlm_bridge.data.units import first_units as first_units
from vlm_bridge.data.units import image_hashes as image_hashes
from vlm_bridge.data.units import items_hash as items_hash
from vlm_bridge.data.units import limit_per_image as limit_per_image
from vlm_bridge.data.units import link_units as link_units
from vlm_bridge.data.units import unit_word as unit_word
from vlm_bridge.data.writing import folder_of as folder_of
from vlm_bridge.data.writing import write_jsonl as write_jsonl

#: task set -> names of its splits
SPLITS: dict[str, tuple[str, ...]] = {
    "easy-vqa": tuple(EASY_VQA_SPLITS),
    "scenes": tuple(SCENES_SPLITS),
    "descriptions": tuple(DESCRIPTIONS_SPLITS),
    "fashion-photos": tuple(FASHION_PHOTOS_SPLITS),
    **RECORDINGS_SPLITS,
    "python-docs": tuple(PYTHON_DOCS_SPLITS),
    "spoken-words": tuple(SPOKEN_WORDS_SPLITS),
}
#: task set -> its items by split
TASKS: dict[str, Callable[[str], list[Item]]] = {
    "easy-vqa": easy_vqa,
    "scenes": scenes,
    "descriptions": descriptions,
    "fashion-photos": fashion_photos,
    "spoken-prompts": spoken_prompts,
    "librivox": librivox,
    "python-docs": python_docs,
    "spoken-words": spoken_words,
}
