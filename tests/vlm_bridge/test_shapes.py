"""Lines in the shapes that people have: read as one item, or refused by line and field."""

from __future__ import annotations

import base64
import copy
import io
import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vlm_bridge
from vlm_bridge.data import Item, Picture, Turn, image, items_from, open_image, read_jsonl
from vlm_bridge.data.shapes import lmms, place
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.shapes.recognise import read_record
from vlm_bridge.errors import BridgeError

SCHEMA = Path(vlm_bridge.__file__).parent / "data" / "item.schema.json"
VALID = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def png(shade):
    stored = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(stored, format="PNG")
    return stored.getvalue()


def url(shade):
    return f"data:image/png;base64,{base64.b64encode(png(shade)).decode()}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("shapes")
    for shade, name in enumerate("abc"):
        (made / f"{name}.png").write_bytes(png(shade))
    (made / "a.wav").write_bytes(b"RIFF")
    return made


def read(folder, *records):
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_jsonl(file)


def asked(role, *parts):
    key = {"a": "text", "i": "image_url"}
    return {"role": role, "content": [{"type": key[k], key[k]: v} for k, v in parts]}


#: name -> (record, the same as a function of the folder).
SAME = {
    "own": (
        {"image": "a.png", "question": "what?", "answer": "x", "cluster": "u"},
        lambda at: Item(at / "a.png", "what?", "x", "u"),
    ),
    "own, several": (
        {"images": ["a.png", "b.png"], "question": "which?"},
        lambda at: Item.of(at / "a.png", at / "b.png", "which?"),
    ),
    "own, content": (
        {
            "content": ["Is", {"image": "a.png"}, "or", {"image": "b.png"}, "?"],
            "system": "short",
            "turns": [
                {"role": "user", "content": [{"image": "c.png"}, "see"]},
                {"role": "assistant", "content": "yes"},
            ],
        },
        lambda at: Item.of(
            *("Is", at / "a.png", "or", at / "b.png", "?"),
            system="short",
            turns=(Turn("user", (at / "c.png", "see")), Turn("assistant", "yes")),
        ),
    ),
    "own, no label": ({"question": "?", "answer": None}, lambda at: Item(None, "?")),
    "own, recording": (
        {"audio": "a.wav", "image": "a.png", "question": "?"},
        lambda at: Item.of(at / "a.png", "?", audio=at / "a.wav"),
    ),
    "llava": (
        {
            "id": "7",
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": "<image>\nwhat?"},
                {"from": "gpt", "value": "x"},
            ],
        },
        lambda at: Item(at / "a.png", "what?", "x"),
    ),
    "llava, several turns": (
        {
            "image": ["a.png", "b.png"],
            "conversations": [
                {"from": "system", "value": "short"},
                {"from": "human", "value": "what?\n<image>"},
                {"from": "gpt", "value": "x"},
                {"from": "human", "value": "is <image> it?"},
            ],
        },
        lambda at: Item.of(
            *("is ", at / "b.png", " it?"),
            system="short",
            turns=(Turn("user", ("what?", at / "a.png")), Turn("assistant", "x")),
        ),
    ),
    "messages": (
        {
            "messages": [
                {"role": "system", "content": "short"},
                asked("user", ("i", "a.png"), ("a", "what?"), ("i", "b.png")),
                {"role": "assistant", "content": "x"},
            ]
        },
        lambda at: Item.of(at / "a.png", "what?", at / "b.png", answer="x", system="short"),
    ),
    "messages, data": (
        {"messages": [asked("user", ("i", {"url": url(9), "detail": "low"}), ("a", "what?"))]},
        lambda at: Item(png(9), "what?"),
    ),
    "messages, images": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image"},
                        {"type": "text", "text": "or"},
                        {"type": "image"},
                    ],
                }
            ],
            "images": ["b.png", "a.png"],
            "answer": "x",
        },
        lambda at: Item.of(at / "b.png", "or", at / "a.png", answer="x"),
    ),
    **{
        f"messages, {key} of an image": (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", key: value, "text": None},
                            {"type": "text", "text": "what?", "image": None},
                        ],
                    }
                ]
            },
            lambda at: Item(at / "a.png", "what?"),
        )
        for key, value in (("image", "a.png"), ("url", "a.png"), ("path", "a.png"))
    },
    "messages, data of an image": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "url": url(9)}, {"type": "text", "text": "?"}],
                }
            ]
        },
        lambda at: Item(png(9), "?"),
    ),
    "document": (
        {"question_id": 4, "image": "a.png", "question": "what?", "answer": "x", "category": "y"},
        lambda at: Item(at / "a.png", "what?", "x"),
    ),
    "document, answers": (
        {"images": ["a.png"], "question": "what?", "answers": ["y", "x", {"answer": "x"}]},
        lambda at: Item(at / "a.png", "what?", "x", answers=("y", "x", "x")),
    ),
    "answers": (
        {"image": "a.png", "question": "what?", "answer": "y", "answers": ["y", "x"]},
        lambda at: Item(at / "a.png", "what?", "y", answers=("y", "x")),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_every_shape_is_the_item_that_it_says(folder, name):
    record, same = SAME[name]
    assert read(folder, record) == [same(folder)]
    VALID.validate(record)


def test_shapes_may_stand_in_one_file_and_share_units(folder):
    items = read(folder, *(record for record, _ in SAME.values() if "cluster" not in record))
    units = {item.images[:1]: item.cluster for item in items}
    linked = {unit for first, unit in units.items() if first and first[0] != Picture.of(png(9))}
    assert len(linked) == 1
    assert len({*units.values()}) == 3  # the data: URL shows another image, and one is text alone


def test_a_data_url_and_its_file_are_one_unit(folder):
    items = read(folder, {"image": "a.png", "question": "1"}, {"image": url(0), "question": "2"})
    assert items[0].cluster == items[1].cluster
    assert np.array_equal(*(np.asarray(open_image(item.image)) for item in items))


def said(*values):
    return [{"from": role, "value": value} for role, value in values]


def user(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


#: (record, what the refusal says); the schema refuses them too, but for those in `FITTING`.
WRONG = [
    ({"image": "a.png", "question": 3}, "'question' is missing or not text.* got 3"),
    ({"image": "a.png", "images": [], "question": "?"}, "'image' and 'images' are given"),
    ({"content": "?", "question": "?"}, "'question' and 'content' are given"),
    ({"content": [3]}, r"'content\[0\]' is text or \{\"image\": ...\}, got 3"),
    ({"content": {"image": "a.png"}}, "'content' is text, or a list of texts and images"),
    ({"question": "?", "images": "a.png"}, "'images' is a list of images, got 'a.png'"),
    ({"question": "?", "images": ["a.png", 3]}, r"'images\[1\]' is not text"),
    ({"question": "?", "turns": "hello"}, "'turns' is a list of objects with role and content"),
    ({"question": "?", "turns": [{"role": "user"}]}, r"'turns\[0\]' is an object with role and"),
    (
        {"question": "?", "turns": [{"role": "bot", "content": "x"}]},
        "a turn is of system, user, assistant, got 'bot'",
    ),
    ({"conversations": said(("human", "?")), "messages": []}, "'conversations' and 'messages' are"),
    ({"conversations": "hello"}, "'conversations' is a list of turns, got 'hello'"),
    ({"conversations": []}, "there is no turn of the user to answer"),
    ({"conversations": [{"from": "human"}]}, r"'conversations\[0\]' is an object with from and"),
    ({"conversations": said(("bot", "?"))}, r"'conversations\[0\].from' is human, user, gpt, sys"),
    ({"conversations": said(("human", 3))}, r"'conversations\[0\].value' is not text, got 3"),
    (
        {"conversations": said(("human", "?")), "video": "a.mp4"},
        "no field 'video'; a line with con",
    ),
    ({"messages": {}}, r"'messages' is a list, got \{\}"),
    ({"messages": [{"role": "user"}]}, r"'messages\[0\]' is an object with role and content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, r"'messages\[0\].role' is system, user,"),
    (
        {"messages": [{"role": "user", "content": "x", "tool_calls": []}]},
        r"'messages\[0\].tool_calls' is not read",
    ),
    (user({"type": "video", "video": "a.mp4"}), "is a video; give its frames as images, in order"),
    (
        user({"type": "sound"}),
        r"'messages\[0\].content\[0\].type' is text, input_text.*got 'sound'",
    ),
    (user("hello"), r"content\[0\].type' is text, .* got 'hello'"),
    (user({"type": "text", "text": 3}), r"content\[0\].text' is not text, got 3"),
    (
        user({"type": "text", "text": "what?", "image": "a.png"}),
        r"content\[0\].image' is not read; it has type, text",
    ),
    (
        user({"type": "image", "image": "a.png", "text": "x"}),
        r"content\[0\].text' is not read; it has type, image, url, path",
    ),
    (user({"type": "image", "base64": "AA=="}), r"content\[0\].base64' is not read"),
    (user({"type": "image", "image": {"url": "a.png"}}), r"content\[0\].image' is not text"),
    (
        user({"type": "image_url", "image_url": {"url": "a.png", "text": "x"}}),
        r"content\[0\].image_url.text' is not read; it has url, detail",
    ),
    (user({"type": "image_url"}), r"content\[0\].image_url' is not text.*got None"),
    (
        {"conversations": [{"from": "human", "value": "?", "image": "a.png"}]},
        r"'conversations\[0\].image' is not read; it has from, value",
    ),
    ({"question_id": 1, "question": "?", "choices": ["a"]}, "the field 'choices' is not read; put"),
    ({"question_id": 1, "image": "a.png"}, "'question' is missing or not text, got None"),
    ({"question": "?", "answers": "x"}, "'answers' is a list of texts, got 'x'"),
    ({"question": "?", "answers": [3]}, r"'answers\[0\]' is not text, got 3"),
]
#: The same, but only a reader can know.
FITTING = [
    *(
        (record, r"holds <image>, which marks an image in 'conversations' .* into 'content'")
        for record in (
            {"image": "a.png", "question": "<image>what?"},
            {"content": [{"image": "a.png"}, "is <image> it?"]},
            {"question": "?", "system": "see <image>"},
            {"question": "?", "turns": [{"role": "user", "content": "<image>"}]},
            {"question_id": 1, "image": "a.png", "question": "<image>what?"},
        )
    ),
    (
        {"image": "a.png", "conversations": said(("human", "what?"))},
        "have 0 marks <image> for 1 im",
    ),
    ({"conversations": said(("human", "<image>what?"))}, "more marks <image> than 0 images"),
    ({"conversations": said(("gpt", "hello"))}, "there is no turn of the user to answer"),
    ({"conversations": said(("human", "?"), ("gpt", "x"), ("gpt", "y"))}, "no turn of the user"),
    (user({"type": "image"}), "has no image, and 'images' has none left for it"),
    ({**user({"type": "text", "text": "?"}), "images": ["a.png"]}, "'images' has 1 more than the"),
    (
        user({"type": "image", "image": "a.png", "url": "b.png"}),
        r"content\[0\]' has image and url; give the image in one",
    ),
    (
        {**user({"type": "image", "url": "a.png"}), "images": ["b.png"]},
        "'images' has 1 more than the parts",
    ),
    (user({"type": "image", "url": "https://x.org/a.png"}), "and nothing is fetched"),
    (user({"type": "image", "path": "../a.png"}), "the image ../a.png lies outside"),
    (
        {
            "messages": [
                {"role": "user", "content": "?"},
                {"role": "assistant", "content": "x"},
            ],
            "answer": "y",
        },
        "'answer' is another than the last turn of the assistant",
    ),
    (
        {"image": "http://x.org/a.png", "question": "?"},
        "is the URL 'http.*', and nothing is fetched",
    ),
    (
        user({"type": "image_url", "image_url": {"url": "https://x.org/a"}}),
        "and nothing is fetched",
    ),
    ({"image": "file:///etc/passwd", "question": "?"}, "is the URL 'file:.*nothing is fetched"),
    ({"image": "data:text/html;base64,AA==", "question": "?"}, "is the URL 'data:text.*nothing is"),
    ({"image": "data:image/png;base64,A*", "question": "?"}, "is a data: URL that is not base64"),
    (
        {"image": "data:image/png;base64,", "question": "?"},
        "an image of 0 bytes|is a data: URL that",
    ),
    ({"images": ["../secret.png"], "question": "?"}, "the image ../secret.png lies outside"),
    ({"content": [{"image": "/etc/passwd"}, "?"]}, "the image /etc/passwd lies outside"),
    (user({"type": "image_url", "image_url": "../a.png"}), "the image ../a.png lies outside"),
    ({"image": ["../a.png"], "conversations": said(("human", "<image>?"))}, "lies outside"),
    ({"question_id": 1, "image": "../a.png", "question": "?"}, "lies outside"),
    ({"image": "none.png", "question": "?"}, "no image at .*none.png"),
]


@pytest.mark.parametrize(("record", "says"), [*WRONG, *FITTING])
def test_a_wrong_record_is_refused_by_line_and_field(folder, record, says):
    with pytest.raises(BridgeError, match=rf"data.jsonl:2: .*{says}"):
        read(folder, {"question": "fine?"}, record)
    assert VALID.is_valid(record) == ((record, says) in FITTING)


def paths_to(value, at=()):
    """The places of all values inside a record."""
    yield at
    listed = enumerate(value) if isinstance(value, list) else ()
    for key, each in value.items() if isinstance(value, dict) else listed:
        yield from paths_to(each, (*at, key))


@given(st.data())
def test_what_is_read_fits_the_schema(folder, data):
    """A changed record that the schema refuses is refused by the reader, too."""
    record = copy.deepcopy(data.draw(st.sampled_from([record for record, _ in SAME.values()])))
    *above, last = data.draw(st.sampled_from([at for at in paths_to(record) if at]))
    parent = record
    for key in above:
        parent = parent[key]
    if data.draw(st.booleans()):
        del parent[last]
    else:
        values = [None, 3, "", "x", [], {}, ["x"], {"image": "a.png"}, {"from": "human"}, 0.5]
        parent[last] = data.draw(st.sampled_from(values))
    try:
        read_record(json.loads(json.dumps(record)), Place("x", folder))
    except BridgeError:
        return
    VALID.validate(record)


def test_the_schema_lists_the_fields_of_the_readers():
    shapes = VALID.schema["$defs"]
    assert set(shapes["document"]["properties"]) == set(lmms.FIELDS)
    VALID.check_schema(VALID.schema)


def test_large_data_urls_and_bombs_are_refused(folder, monkeypatch):
    monkeypatch.setattr(place, "MAX_DATA_URL_BYTES", 20)
    with pytest.raises(BridgeError, match="is a data: URL of more than 20 bytes; save the image"):
        read(folder, {"image": url(1), "question": "?"})
    monkeypatch.undo()
    monkeypatch.setattr(image, "MAX_PIXELS", 15)
    (item,) = read(folder, {"image": url(1), "question": "?"})
    with pytest.raises(BridgeError, match="has 4 x 4 pixels, more than 15"):
        item.open()


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "out.png").write_bytes(png(1))
    link = folder / "link.png"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "out.png")
    with pytest.raises(BridgeError, match=r"the image link.png lies outside"):
        read(folder, {"images": ["link.png"], "question": "?"})


class Split:
    """A data set as `datasets` gives it: rows by iteration, names of columns."""

    def __init__(self, rows, names=None):
        self.rows, self.column_names = rows, names or list(rows[0])

    def __iter__(self):
        return iter(self.rows)


def test_rows_of_a_data_set(folder):
    shown = Image.new("RGB", (4, 4), (7, 0, 0))
    rows = [
        {"picture": shown, "query": "what?", "label": "x", "other": 3},
        {"picture": {"bytes": png(1), "path": None}, "query": "why?", "label": None, "other": 4},
        {"picture": {"bytes": None, "path": str(folder / "c.png")}, "query": "how?", "label": "y"},
    ]
    columns = {"image": "picture", "question": "query", "answer": "label"}
    items = items_from(Split(rows), columns=columns)
    assert items == [
        Item(shown, "what?", "x"),
        Item(png(1), "why?"),
        Item(folder / "c.png", "how?", "y"),
    ]
    assert items[1].cluster == Item(folder / "b.png", "why?").cluster
    with pytest.raises(
        BridgeError, match=r"row 0: 'question' is missing .*; name the columns with"
    ):
        items_from(Split(rows))


def test_rows_of_pandas(folder):
    frame = pd.DataFrame(
        {
            "image": [str(folder / "a.png"), None],
            "question": ["one?", "two?"],
            "answer": ["x", None],
        }
    )
    assert items_from(frame) == [Item(folder / "a.png", "one?", "x"), Item(None, "two?")]
    named = frame.rename(columns={"question": "q"})[["q"]]
    assert [item.question for item in items_from(named, columns={"question": "q"})] == [
        *("one?", "two?")
    ]


def test_arrays_in_rows_are_lists(folder):
    """Parquet files give arrays of objects where a data set has lists, at any depth."""
    pixels = np.full((2, 2), 5, dtype=np.uint8)
    paths = np.array([str(folder / "a.png")], dtype=object)
    said = np.array([{"type": "image", "image": pixels}, {"type": "text", "text": "?"}])
    rows = [
        {"images": paths, "question": "?", "answers": np.array(["x", "y", "y"])},
        {"images": np.stack([pixels, pixels]), "question": "?", "answers": np.array([])},
        {"messages": np.array([{"role": "user", "content": said}])},
    ]
    assert items_from(rows) == [
        Item(folder / "a.png", "?", answers=("x", "y", "y")),
        Item.of(pixels, pixels, "?"),
        Item(pixels, "?"),
    ]


@pytest.mark.parametrize("empty", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_empty_cells_are_not_there(empty):
    rows = [{"question": "?", "answer": empty, "image": empty, "answers": empty}]
    assert items_from(rows) == [Item(None, "?")]


@pytest.mark.parametrize(
    ("row", "hinted"),
    [
        ({"query": "?"}, True),
        ({"question": "?", "picture": png(1)}, True),
        ({"question": 3}, False),
        ({"question": None}, False),
        ({"question": "?", "answers": "x"}, False),
    ],
)
def test_columns_are_advised_only_where_one_is_missing(row, hinted):
    with pytest.raises(BridgeError, match="row 0: ") as refused:
        items_from([row])
    assert ("name the columns" in str(refused.value)) == hinted


def test_rows_share_units(folder):
    pixels = np.full((2, 2), 5, dtype=np.uint8)
    rows = [
        {"images": [pixels, png(1)], "question": "1"},
        {"image": folder / "b.png", "question": "2"},
        {"image": pixels, "question": "3"},
        {"image": png(2), "question": "4"},
    ]
    found = [item.cluster for item in items_from(rows)]
    assert len(set(found[:3])) == 1
    assert found[3] not in found[:3]


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (
            Split([{}], {"train": ["question"]}),
            {},
            r"several splits .*\(train\); choose one, as rows",
        ),
        (
            "data.jsonl",
            {},
            "rows are a data set, a frame or a list of dicts, got 'data.jsonl'; read",
        ),
        (3, {}, "rows are a data set, a frame or a list of dicts, got 3; read"),
        ([], {}, "there are no rows"),
        ([3], {}, "row 0: expected a JSON object, got int"),
        ([{"a": 1}], {"columns": {"qestion": "a"}}, "no field 'qestion'; did you mean question"),
        ([{"a": 1}], {"columns": {"question": "b"}}, "row 0: no column 'b'; choose from a"),
        ([{"question": 3}], {}, "row 0: 'question' is missing or not text"),
        ([{"image": object(), "question": "?"}], {}, "row 0: 'image': a object is no image; give"),
        (
            [{"image": np.zeros((2, 2)), "question": "?"}],
            {},
            "row 0: 'image': an image is given as an array of float64",
        ),
        ([{"image": "/etc/passwd", "question": "?"}], {"images": "."}, "row 0: .* lies outside"),
    ],
)
def test_other_rows_are_refused(rows, options, says):
    with pytest.raises(BridgeError, match=says):
        items_from(rows, **options)
