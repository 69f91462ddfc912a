"""What the model sees is what a viewer shows, or the image is refused in one line."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vlm_bridge.data import image_hash, read_image
from vlm_bridge.data.image import seen_image
from vlm_bridge.errors import BridgeError

RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8))


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "jp2"])
def test_opaque_colours_come_back_as_they_were(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    COLOURS.save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(pixels(path), np.asarray(COLOURS))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_a_photo_is_turned_as_its_exif_says(turn: int, suffix: str, tmp_path: Path) -> None:
    half = np.r_[np.full((8, 16, 3), 250, np.uint8), np.zeros((8, 16, 3), np.uint8)]
    image = Image.fromarray(half)
    exif = image.getexif()
    exif[0x0112] = turn
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    seen = pixels(tmp_path / f"a.{suffix}").astype(int)
    turned = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[turn]
    np.testing.assert_allclose(seen, np.rot90(half, turned).astype(int), atol=3)


def test_transparency_shows_white(tmp_path: Path) -> None:
    ink = np.zeros((4, 4, 4), np.uint8)
    ink[1, 1] = (10, 20, 30, 255)
    ink[2, 2] = (0, 0, 0, 128)
    Image.fromarray(ink).save(tmp_path / "a.png")
    seen = pixels(tmp_path / "a.png")
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[1, 1].tolist() == [10, 20, 30]
    assert abs(seen[2, 2].astype(int) - 127).max() <= 1
    grey = np.stack([np.full((4, 4), 7, np.uint8), ink[..., 3]], axis=-1)
    Image.fromarray(grey, "LA").save(tmp_path / "b.png")
    assert pixels(tmp_path / "b.png")[:2, :2].tolist() == [[[255] * 3] * 2, [[255] * 3, [7] * 3]]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_palette_colour_shows_white(suffix: str, tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200])
    image.putpixel((0, 0), 2)
    image.save(tmp_path / f"a.{suffix}", transparency=1)
    seen = pixels(tmp_path / f"a.{suffix}")
    assert seen[0, 0].tolist() == [0, 0, 200]
    assert seen[1, 1].tolist() == [255, 255, 255]


def test_one_transparent_colour_of_an_rgb_or_grey_image_shows_white(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert (pixels(tmp_path / "a.png") == 255).all()
    Image.new("L", (2, 2), 9).save(tmp_path / "b.png", transparency=9)
    assert (pixels(tmp_path / "b.png") == 255).all()
    wide = np.array([[0, 40000]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "c.png", transparency=0)
    assert pixels(tmp_path / "c.png")[0, :, 0].tolist() == [255, round(40000 / 257)]


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_grey_keeps_its_levels(suffix: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(
        pixels(tmp_path / f"a.{suffix}")[..., 0], np.arange(256).reshape(16, 16)
    )


def test_floating_point_grey_between_0_and_1_is_scaled(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(
        pixels(tmp_path / "a.tiff")[..., 1], np.arange(256).reshape(16, 16)
    )


def tiff(values: np.ndarray, photometric: int, bits: int = 0) -> bytes:
    """A TIFF of one grey channel; Pillow writes none of 12 bits, and none whose zero is white."""
    data, kind = values.tobytes(), 3 if values.dtype.kind == "f" else 1
    if bits == 12:
        pairs = values.reshape(-1, 2).tolist()
        data = b"".join((a << 12 | b).to_bytes(3, "big") for a, b in pairs)
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits or 8 * values.itemsize, 259: 1, 262: photometric}
    tags |= {273: 8, 277: 1, 278: height, 279: len(data), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags))
    return head + entries + bytes(4)


@pytest.mark.parametrize("white", [255, 65_535, 1.0])
def test_zero_is_black_or_white_as_the_file_says(white: float, tmp_path: Path) -> None:
    kind = {255: np.uint8, 65_535: np.uint16, 1.0: np.float32}[white]
    values = (np.array([[0, 100, 200, 255]]) / 255 * white).round(4).astype(kind)
    for photometric, seen in ((1, [0, 100, 200, 255]), (0, [255, 155, 55, 0])):
        (tmp_path / "a.tiff").write_bytes(tiff(values, photometric))
        assert pixels(tmp_path / "a.tiff")[0, :, 0].tolist() == seen


def test_12_bit_grey_keeps_its_levels(tmp_path: Path) -> None:
    levels = np.arange(256).reshape(16, 16)
    values = np.round(levels * 4095 / 255).astype(np.uint16)
    (tmp_path / "a.tiff").write_bytes(tiff(values, 1, bits=12))
    np.testing.assert_array_equal(pixels(tmp_path / "a.tiff")[..., 0], levels)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.linspace(-1, 1, 16), "floating-point grey values from -1 to 1"),
        (np.linspace(0, 255, 16), "floating-point grey values from 0 to 255"),
        (np.array([0.0, np.nan] * 8), "floating-point grey values from nan to nan"),
        (np.array([0, np.inf] * 8), "floating-point grey values from 0 to inf"),
        (np.arange(16, dtype=np.int32), "32-bit grey values from 0 to 15"),
    ],
)
def test_grey_of_unknown_range_is_refused(values: np.ndarray, says: str, tmp_path: Path) -> None:
    kind = np.int32 if values.dtype == np.int32 else np.float32
    Image.fromarray(values.astype(kind).reshape(4, 4)).save(tmp_path / "a.tiff")
    with pytest.raises(BridgeError, match=rf"{says}, of which black and white are unknown"):
        read_image(tmp_path / "a.tiff")


def test_cmyk_and_two_colour_images_are_read(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tiff")
    assert pixels(tmp_path / "a.tiff")[0, 0].tolist() == [255, 0, 0]
    COLOURS.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")).convert("RGB"))
    np.testing.assert_array_equal(pixels(tmp_path / "a.jpg"), shown)
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(pixels(tmp_path / "b.png")[..., 2], 255 * np.eye(8))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animations_and_pages_are_refused(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(BridgeError, match="has 3 frames or pages; a question is about one"):
        read_image(tmp_path / f"a.{suffix}")


def png(
    width: int, height: int, data: bytes, *, depth: int = 8, colour: int = 0, clear: bytes = b""
) -> bytes:
    """A PNG whose header says any size, and whose transparent colour is `clear`."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    if clear:
        head += chunk(b"tRNS", clear)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "row", "greys"),
    [
        (1, [0b01000000], [0, 255]),
        (2, [0b00011011], [0, 85, 170, 255]),
        (4, [0x01, 0xEF], [0, 17, 238, 255]),
        (8, [0, 1, 254, 255], [0, 1, 254, 255]),
    ],
)
def test_a_transparent_grey_of_any_depth_shows_white(
    depth: int, row: list[int], greys: list[int], tmp_path: Path
) -> None:
    data = zlib.compress(bytes([0, *row]))
    for key in (None, 0, 1):
        clear = b"" if key is None else struct.pack(">H", key)
        (tmp_path / "a.png").write_bytes(png(len(greys), 1, data, depth=depth, clear=clear))
        seen = [255 if at == key else grey for at, grey in enumerate(greys)]
        assert pixels(tmp_path / "a.png")[0, :, 0].tolist() == seen


def test_a_transparent_16_bit_colour_is_refused(tmp_path: Path) -> None:
    row = np.array([[0, 20_000, 65_535], [40_000, 1, 2]], ">u2").tobytes()
    for clear in (b"", struct.pack(">HHH", 40_000, 1, 2), struct.pack(">HHH", 0, 78, 255)):
        data = zlib.compress(b"\0" + row)
        (tmp_path / "a.png").write_bytes(png(2, 1, data, depth=16, colour=2, clear=clear))
        if not clear:
            assert pixels(tmp_path / "a.png").tolist() == [[[0, 78, 255], [156, 0, 0]]]
            continue
        with pytest.raises(BridgeError, match=r"a\.png has a transparent colour of 16 bits; save"):
            read_image(tmp_path / "a.png")


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_a_picture_in_memory_is_one_before_and_after_it_is_loaded(
    depth: int, tmp_path: Path
) -> None:
    """Pillow forgets the depth; a key that depends on it is refused in both states."""
    rows = {2: [0b00011011], 4: [0x01, 0xEF], 8: [0, 1, 254, 255], 16: [*[0, 1, 2] * 8]}
    colour, form = (2, ">HHH") if depth == 16 else (0, ">H")
    data = zlib.compress(bytes([0, *rows[depth]]))
    for key in (None, 0, 1):
        clear = b"" if key is None else struct.pack(form, *[key] * (3 if depth == 16 else 1))
        file = tmp_path / f"{key}.png"
        file.write_bytes(png(4, 1, data, depth=depth, colour=colour, clear=clear))
        with Image.open(file) as held:
            unknown = (depth in (2, 4) and key == 1) or (depth == 16 and key is not None)
            for _ in range(2):
                if unknown:
                    with pytest.raises(BridgeError, match="unknown number of bits; give the path"):
                        seen_image(held, "it")
                else:
                    seen = np.asarray(seen_image(held, "it"))
                    np.testing.assert_array_equal(seen, pixels(file))
                held.load()


@pytest.mark.parametrize("top", [15, 70_000])
def test_32_bit_grey_in_memory_is_refused_as_its_file_is(top: int, tmp_path: Path) -> None:
    made = Image.fromarray(np.linspace(0, top, 16).astype(np.int32).reshape(4, 4))
    made.save(tmp_path / "a.tiff")
    with Image.open(tmp_path / "a.tiff") as held:
        for image in (made, held, held.copy()):
            with pytest.raises(BridgeError, match=f"32-bit grey values from 0 to {top}"):
                seen_image(image, "it")
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n\xff\xff\x00\x00")  # 16 bits, in mode I
    assert pixels(tmp_path / "a.pgm")[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((10_001, 10_000), "has 10001 x 10000 pixels, more than 100000000; make it smaller"),
        ((60_000, 60_000), "has more than 100000000 pixels"),
        ((2**31 - 1, 2**31 - 1), "has more than 100000000 pixels"),
        ((0, 5), "image"),
        ((5, 0), "image"),
    ],
)
def test_bombs_and_empty_images_are_refused(
    size: tuple[int, int], says: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(*size, zlib.compress(b"")))
    with pytest.raises(BridgeError, match=says):
        read_image(tmp_path / "a.png")


def test_no_limit_warns_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    COLOURS.save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.asarray(COLOURS))


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.png", b""), ("a.png", b"not a picture"), ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")],
)
def test_what_is_no_picture_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BridgeError, match=f"cannot read the image .*{name}"):
        read_image(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("none.png", ".", "pipe.png", "a\0.png", "x" * 5000):
        with pytest.raises(BridgeError, match="no image at"):
            read_image(tmp_path / name)
        with pytest.raises(BridgeError, match="no image at"):
            image_hash(tmp_path / name)


def encoded(kind: str) -> bytes:
    """A small image as a file of a format."""
    buffer = io.BytesIO()
    COLOURS.save(buffer, format=kind)
    return buffer.getvalue()


WHOLE = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")}


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_a_truncated_or_changed_file_is_read_or_refused(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, 8 * len(changed) - 1))
        changed[at // 8] ^= 1 << at % 8
    cut = data.draw(st.integers(0, len(changed)))
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(bytes(changed[:cut]))
    message = ""
    try:
        assert read_image(path).mode == "RGB"
    except BridgeError as refusal:
        message = str(refusal)
    assert "\n" not in message


def test_the_hash_of_a_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    first = image_hash(path)
    path.write_bytes(b"two")
    assert image_hash(path) != first
    for second in range(2):  # settled files are read once, then again when their stamp changes
        os.utime(path, (second, second))
        assert image_hash(path) != first
    path.write_bytes(b"one")
    assert image_hash(path) == first
