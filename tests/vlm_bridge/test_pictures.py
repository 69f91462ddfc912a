"""Images in memory: what can be one, its content and its limits."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlm_bridge.data import Item, Picture, content_of, image, image_hash, image_ids, open_image
from vlm_bridge.data import picture as pictures
from vlm_bridge.errors import BridgeError

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def png(pixels=PIXELS):
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, format="PNG")
    return stored.getvalue()


def test_every_form_shows_the_same_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    forms = (PIXELS, Image.fromarray(PIXELS), png(), bytearray(png()), memoryview(png()))
    for form in (*forms, tmp_path / "a.png", str(tmp_path / "a.png")):
        item = Item(form, "?")
        assert np.array_equal(np.asarray(item.open()), PIXELS)
        assert item.kinds == ("image",)
    assert np.array_equal(np.asarray(Item(PIXELS[..., 0], "?").open())[..., 2], PIXELS[..., 0])
    clear = np.dstack([PIXELS, np.zeros((4, 4), dtype=np.uint8)])
    assert (np.asarray(Item(clear, "?").open()) == 255).all()  # laid on white


def test_identity_is_of_the_content(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    of_bytes, of_file = Item(png(), "?"), Item(tmp_path / "a.png", "?")
    assert of_bytes.cluster == of_file.cluster  # one file, wherever its bytes are
    assert image_ids([of_bytes]) == image_ids([of_file])
    assert content_of(of_bytes.image) == image_hash(tmp_path / "a.png")
    of_array, of_pil = Item(PIXELS, "?"), Item(Image.fromarray(PIXELS), "?")
    assert of_array == of_pil
    assert len({of_array.cluster, of_bytes.cluster, Item(PIXELS[:2], "?").cluster}) == 3
    assert Item(PIXELS.reshape(2, 8, 3), "?").cluster != of_array.cluster  # same bytes, other shape
    assert pickle.loads(pickle.dumps(of_array)) == of_array
    assert len(repr(of_array)) < 250


def test_an_image_is_copied():
    pixels, shown = PIXELS.copy(), Image.fromarray(PIXELS)
    items = [Item(pixels, "?"), Item(shown, "?")]
    pixels[:] = 0
    shown.putpixel((0, 0), (9, 9, 9))
    for item in items:
        assert np.array_equal(np.asarray(item.open()), PIXELS)


def test_exif_is_followed_as_in_files(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(PIXELS[:2]).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as held:
        found = Item(held, "?").open()
    assert found.size == (2, 4)
    assert np.array_equal(np.asarray(found), np.asarray(open_image(tmp_path / "a.png")))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 255))
def test_size_and_pixels_come_back(height, width, value):
    made = Picture.of(np.full((height, width), value, dtype=np.uint8))
    assert made.size == made.open().size == (width, height)
    assert made.open().getpixel((width - 1, height - 1)) == (value,) * 3
    assert made == Picture.of(made.open()) == Picture.of(made)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, "3 is no image; give a path, a PIL image, a uint8 array"),
        ([1, 2], "a list is no image; give a path"),
        (PIXELS.astype(float), "array of float64, whose black and white are unknown; scale it"),
        (np.zeros((3, 4, 4), np.uint8).transpose(0, 1, 2)[..., :2], r"array of shape \(3, 4, 2\)"),
        (np.zeros(4, np.uint8), r"an array of shape \(4,\) is no image"),
        (np.zeros((0, 4), np.uint8), "an image of 4 x 0 pixels is given; it has 1 to"),
        (b"", "an image of 0 bytes is given; it has 1 to"),
    ],
)
def test_what_is_no_image_is_refused(value, says):
    with pytest.raises(BridgeError, match=says):
        Item(value, "?")


def test_broken_bytes_are_refused_when_they_are_opened():
    item = Item(b"not a picture", "?")
    with pytest.raises(BridgeError, match=r"cannot read the image [0-9a-f]{12}: cannot identify"):
        item.open()


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(image, "MAX_PIXELS", 15)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 15)
    for form, says in (
        (PIXELS, "an image of 4 x 4 pixels is given; it has 1 to 15"),
        (Image.fromarray(PIXELS), "the image in memory has 4 x 4 pixels, more than 15"),
    ):
        with pytest.raises(BridgeError, match=says):
            Item(form, "?")
    with pytest.raises(BridgeError, match="has 4 x 4 pixels, more than 15"):
        Item(png(), "?").open()
    monkeypatch.setattr(pictures, "MAX_IMAGE_BYTES", 20)
    with pytest.raises(BridgeError, match=r"an image of \d+ bytes is given; it has 1 to 20"):
        Item(png(), "?")


def test_several_frames_are_refused(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as held, pytest.raises(BridgeError, match="has 2 frames"):
        Item(held, "?")
