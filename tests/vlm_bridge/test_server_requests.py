"""Bodies of chat requests: what is read, and refusals that name the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.asking import body, data_url
from tests.vlm_bridge.tiny import picture
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.server.request import RequestError, Sampling, read_request
from vlm_bridge.server.settings import ServerSettings

NAMES = ("tiny@full", "tiny")
SETTINGS = ServerSettings(images=2, max_tokens=100, default_tokens=7)
TEXT = {"messages": [{"role": "user", "content": "what is red ?"}]}


def read(fields: Any, settings: ServerSettings = SETTINGS):
    return read_request(json.dumps(fields).encode(), NAMES, settings)


def refused(fields: Any, field: str, *says: str, status: int = 400) -> None:
    with pytest.raises(RequestError) as error:
        read(fields)
    assert (error.value.field, error.value.status) == (field, status)
    assert f"'{field}" in str(error.value)
    assert all(words in str(error.value) for words in says), str(error.value)


def test_an_item_of_text_and_images_in_order():
    item = Item.of(picture(0), "is", picture(1), "red ?")
    found = read(body(item))
    assert [type(part) for part in found.item.dialogue[-1].parts] == [
        type(part) for part in item.dialogue[-1].parts
    ]
    pixels = [image.open().tobytes() for image in found.item.images]
    assert pixels == [picture(0).tobytes(), picture(1).tobytes()]
    assert found.sampling is None
    assert not found.stream


def test_turns_before_the_question():
    turns = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": [{"type": "text", "text": "what is blue ?"}]},
        {"role": "assistant", "content": "a circle"},
        {"role": "user", "content": "what is red ?"},
    ]
    item = read({"messages": turns}).item
    assert [turn.role for turn in item.dialogue] == ["system", "user", "assistant", "user"]
    assert item.question == "what is red ?"
    assert item.dialogue[2].parts == ("a circle",)


def test_defaults_and_settings():
    assert read(TEXT).max_tokens == 7
    assert read({**TEXT, "max_tokens": 100}).max_tokens == 100
    assert read({**TEXT, "max_completion_tokens": 9}).max_tokens == 9
    drawn = read({**TEXT, "temperature": 0.5, "top_p": 0.9, "seed": 3})
    assert drawn.sampling == Sampling(0.5, 0.9, 3)
    assert read({**TEXT, "temperature": 0, "seed": 3}).sampling is None
    stream = read({**TEXT, "stream": True, "stream_options": {"include_usage": True}})
    assert stream.stream
    assert stream.with_usage


def test_who_may_share_a_batch():
    plain, image = read(TEXT), read(body(Item.of(picture(0), "red ?"), max_tokens=7))
    assert plain.settings == read({**TEXT, "stream": True}).settings
    assert plain.settings != image.settings
    assert plain.settings != read({**TEXT, "max_tokens": 8}).settings
    assert read({**TEXT, "temperature": 1}).settings is None


@pytest.mark.parametrize("name", NAMES)
def test_the_model_by_its_names(name):
    assert read({**TEXT, "model": name}).item.question


def test_fields_that_ask_for_nothing():
    asked = {"n": 1, "stop": [], "logprobs": False, "user": "me", "frequency_penalty": 0.0}
    assert read({**TEXT, **asked, "tools": None}).item == read(TEXT).item


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 101),
        ("max_tokens", True),
        ("max_tokens", 1.5),
        ("max_tokens", "8"),
        ("max_completion_tokens", -1),
        ("temperature", 2.1),
        ("temperature", 1e-40),
        ("temperature", -0.1),
        ("temperature", True),
        ("temperature", "hot"),
        ("temperature", 10**400 // 10),
        ("top_p", 0),
        ("top_p", 1.1),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 1.0),
        ("stream", 1),
        ("stream_options", {"include_usage": True}),
        ("stream_options", {"more": True}),
        ("stream_options", {"include_usage": 1}),
        ("n", 2),
        ("n", True),
        ("logprobs", True),
        ("logprobs", 0),
        ("stop", ["\n"]),
        ("tools", [{}]),
        ("response_format", {"type": "json_object"}),
        ("best_of", 2),
    ],
)
def test_a_field_that_cannot_be_obeyed_is_named(field, value):
    refused({**TEXT, field: value}, field)


def test_two_lengths_that_differ():
    refused({**TEXT, "max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens")


def test_another_model():
    refused({**TEXT, "model": "gpt"}, "model", "'gpt'", "tiny@full", status=404)
    refused({**TEXT, "model": ["tiny"]}, "model", status=404)


def image_part(url: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.png",
        "https://example.org/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "../a.png",
        "",
        "ftp://a",
    ],
)
@pytest.mark.parametrize(
    "form", [lambda url: url, lambda url: {"url": url}], ids=["text", "object"]
)
def test_no_file_is_read_and_nothing_fetched(url, form):
    field = "messages[0].content[0].image_url"
    refused(image_part(form(url)), field, "reads no file and fetches nothing")


def test_a_list_of_images_beside_the_messages_is_refused():
    message = {"role": "user", "content": [{"type": "image", "image": "/etc/passwd"}]}
    refused({"messages": [message]}, "messages[0].content[0].image", "reads no file")
    refused({**TEXT, "images": ["/etc/passwd"]}, "images")


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ("hello", "messages"),
        (None, "messages"),
        ([1], "messages[0]"),
        ([{"role": "user"}], "messages[0]"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "video"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
            "messages[1].role",
        ),
        ([{"role": "user", "content": "  "}], "messages"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "messages"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "messages[0].tool_calls"),
    ],
)
def test_messages_that_are_none(messages, field):
    refused({"messages": messages}, field)


def test_broken_and_too_many_images():
    field = "messages[0].content[0].image_url"
    refused(image_part("data:image/png;base64,!!!!"), field, "not base64")
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    text = {"type": "text", "text": "red ?"}
    refused({"messages": [{"role": "user", "content": [part, text]}]}, "messages", "cannot read")
    good = {"type": "image_url", "image_url": {"url": data_url(picture(0))}}
    many = {"messages": [{"role": "user", "content": [good, good, good, text]}]}
    refused(many, "messages", "3 images", "at most 2")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "JSON object"),
        (b'"text"', "JSON object"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "UTF-16"),
        (b'{"messages": 1, "messages": 2}', "twice"),
        (b'{"temperature": NaN}', "NaN"),
        (b"[" * 5000, "nested"),
    ],
)
def test_what_is_no_object_is_refused(data, says):
    with pytest.raises(RequestError, match=says):
        read_request(data, NAMES, SETTINGS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["messages", "model", "max_tokens", "temperature", "top_p", "seed", "stream", "stop", "n"]
)
PART = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image_url", "image"]) | JSON,
        "text": JSON,
        "image_url": JSON,
        "image": JSON,
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "user", "assistant"]) | JSON,
        "content": st.text(max_size=4) | st.lists(PART, max_size=3) | JSON,
    },
)


def names_a_field_or_reads(fields: dict[str, Any]) -> None:
    try:
        found, error = read(fields), None
    except RequestError as refusal:
        found, error = None, refusal
    if error is None:
        assert found.item.question.strip()
        assert 1 <= found.max_tokens <= 100
    else:
        assert error.status in (400, 404)
        assert error.field.split("[")[0] in {*fields, "messages", ""}
        assert error.field in str(error)


@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_fields_are_read_or_refused(fields):
    names_a_field_or_reads(fields)


@given(st.lists(MESSAGE, max_size=3))
def test_any_messages_are_read_or_refused(messages):
    names_a_field_or_reads({"messages": messages})


@given(st.binary(max_size=40))
def test_any_bytes_are_refused(data):
    with pytest.raises(RequestError):
        read_request(data, NAMES, SETTINGS)


@pytest.mark.parametrize(
    "field", ["batch_size", "queue", "body_bytes", "images", "max_tokens", "prompt_tokens"]
)
@pytest.mark.parametrize("value", [0, -1, True, 1.0, "2", 2**31])
def test_settings_out_of_range(field, value):
    with pytest.raises(BridgeError, match=field):
        ServerSettings(**{field: value})


@pytest.mark.parametrize("value", [-1, 61, float("nan"), float("inf"), True, "1"])
def test_a_wait_out_of_range(value):
    with pytest.raises(BridgeError, match="wait"):
        ServerSettings(wait=value)


def test_the_default_length_is_within_the_longest():
    with pytest.raises(BridgeError, match="default_tokens"):
        ServerSettings(max_tokens=10)
