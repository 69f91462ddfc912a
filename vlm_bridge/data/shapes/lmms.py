"""The shape of documents of evaluation harnesses: question, image or images, answer or answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.errors import shown

#: Fields that only such documents have; one of them beside a question tells the shape.
MARKS = ("question_id", "doc_id", "image_id", "answers")
#: Fields that name or sort a document, and are in no prompt.
_LABELS = (
    *("question_id", "doc_id", "image_id", "id", "idx", "index", "split", "dataset", "data_source"),
    *("category", "subcategory", "topic", "question_type", "answer_type"),
)
FIELDS = ("image", "images", "question", "answer", "answers", "cluster", *_LABELS)


def read(record: Mapping[str, Any], place: Place) -> Item:
    """An item of a question behind its images; of several answers the most frequent counts.

    Of equally frequent answers the first counts. Fields that name or sort documents are left out;
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
    answer = _answer(record, place)
    return Item.of(*images, record["question"], answer=answer, cluster=place.cluster(record))


def _answer(record: Mapping[str, Any], place: Place) -> str | None:
    answers = record.get("answers", [])
    if not isinstance(answers, list | tuple):
        raise place.refusal(f"'answers' is a list of texts, got {shown(answers)}")
    texts = []
    for number, each in enumerate(answers):
        text = each.get("answer") if isinstance(each, Mapping) else each
        if not isinstance(text, str):
            raise place.refusal(f"'answers[{number}]' is not text, got {shown(each)}")
        texts.append(text)
    if record.get("answer") is not None:
        return place.answer(record)
    return Counter(texts).most_common(1)[0][0] if texts else None
