"""The shape of documents of evaluation harnesses: question, image or images, answer or answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.errors import shown

#: Fields that only such documents have; one of them beside a question tells the shape.
MARKS = ("question_id", "doc_id", "image_id")
#: Fields that name or sort a document, and are in no prompt.
_LABELS = (
    *("question_id", "doc_id", "image_id", "id", "idx", "index", "split", "dataset", "data_source"),
    *("category", "subcategory", "topic", "question_type", "answer_type"),
)
FIELDS = ("image", "images", "question", "answer", "answers", "cluster", *_LABELS)


def read(record: Mapping[str, Any], place: Place) -> Item:
    """An item of a question behind its images, with all reference answers.

    Fields that name or sort documents are left out;
    any other field is refused, since it may belong into the prompt, as choices do.
    """
    if unknown := sorted(set(record) - set(FIELDS)):
        raise place.refusal(
            f"the field {shown(unknown[0])} is not read; put what belongs into the prompt into "
            f"'question', or leave it out. A document has {', '.join(FIELDS)}"
        )
    if not isinstance(record.get("question"), str):
        raise place.refusal(
            f"'question' is missing or not text, got {shown(record.get('question'))}"
        )
    if "image" in record and "images" in record:
        raise place.refusal("'image' and 'images' are given; put all images into one")
    images = place.images(record["images"], "images") if "images" in record else ()
    if "image" in record:
        images = (place.image(record["image"], "image"),)
    return Item.of(
        *images,
        record["question"],
        answer=place.answer(record),
        answers=place.answers(record),
        cluster=place.cluster(record),
    )
