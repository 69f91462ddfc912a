"""Read an image file as a viewer shows it, and name its content."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vlm_bridge.data.content import file_hash
from vlm_bridge.errors import BridgeError, shown

#: Most pixels of an image, so that a small file cannot fill the memory.
MAX_PIXELS = 100_000_000
#: Formats that are read; others, such as EPS, may run programs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
#: Tags of a TIFF, and the photometric interpretation whose zero is white.
_BITS, _PHOTOMETRIC, _ZERO_IS_WHITE = 258, 262, 0


def read_image(path: Path) -> Image.Image:
    """The image as 8-bit RGB pixels, as a viewer shows it.

    It is turned as its EXIF orientation says, and laid on white where it is transparent. 16-bit
    grey is scaled by 255/65535, 12-bit grey by 255/4095, and floating-point grey between 0 and 1 by
    255; where the file says that zero is white, it is inverted. Colour profiles are not applied.

    Raises:
        BridgeError: no image file, a broken or truncated one, an unknown format, more than
            `MAX_PIXELS` pixels, several frames or pages, a transparent colour of 16 bits, or grey
            values whose black and white are unknown (32-bit integers, floating-point numbers
            outside 0 to 1).
    """
    if not os.path.isfile(path):
        raise BridgeError(f"no image at {shown(str(path)) if chr(0) in str(path) else path}")
    return _decoded(path, f"the image {path}")


def decode_image(data: bytes, name: str) -> Image.Image:
    """The same of the bytes of an image file; `name` is what messages call it."""
    return _decoded(io.BytesIO(data), name)


def seen_image(image: Image.Image, name: str) -> Image.Image:
    """The same of an image that Pillow holds, which is not changed.

    Pillow forgets how many bits a file had for a grey or a colour once it has read the pixels, so a
    transparent colour that could be of another number of bits is refused, before and after.
    """
    with _refusing(name):
        _check_size(name, image)
        image.load()  # so that no state before it is seen
        _check_key_in_memory(name, image)
        return _as_seen(name, image)


def _decoded(source: Path | io.BytesIO, name: str) -> Image.Image:
    with _refusing(name), Image.open(source, formats=[f for f in FORMATS if _known(f)]) as handle:
        _check_size(name, handle)
        return _as_seen(name, handle)


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn the errors of Pillow into a `BridgeError` that names the image."""
    try:
        with warnings.catch_warnings():
            # Pillow's own limits are a warning and an error for the whole process.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except BridgeError:
        raise
    except (Image.DecompressionBombError, MemoryError):
        raise BridgeError(f"{name} has more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # Pillow's decoders raise errors of any type on broken files
        why = " ".join(str(error).split()) or type(error).__name__
        raise BridgeError(f"cannot read {name}: {why}") from None


def image_hash(path: Path) -> str:
    """`file_hash` of an image file."""
    return file_hash(path, "image")


@functools.cache
def _known(name: str) -> bool:
    """Whether this build of Pillow has the format."""
    Image.init()
    return name in Image.OPEN


def _check_size(name: str, image: Image.Image) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise BridgeError(f"{name} is empty ({width} x {height} pixels)")
    if width * height > MAX_PIXELS:
        raise BridgeError(
            f"{name} has {width} x {height} pixels, more than {MAX_PIXELS}; make it smaller"
        )
    # The further frames of an MPO, from cameras, are previews of the first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise BridgeError(
            f"{name} has {frames} frames or pages; a question is about one: save that one"
        )


def _as_seen(name: str, handle: Image.Image) -> Image.Image:
    """8-bit RGB pixels, turned and laid on white."""
    tile = getattr(handle, "tile", None)
    stored = str(tile[0][3]) if tile else ""  # how the file holds its pixels
    image = ImageOps.exif_transpose(handle)
    if image.mode.startswith("I") or image.mode == "F":
        return _of_wide_grey(name, image, handle)
    if not image.has_transparency_data:
        return image.convert("RGB")
    _check_key(name, image, stored)
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _check_key(name: str, image: Image.Image, stored: str) -> None:
    """Scale the grey that a PNG declares transparent as its pixels were; refuse 16-bit colours."""
    key = image.info.get("transparency")
    if isinstance(key, int) and stored in ("L;2", "L;4"):
        image.info["transparency"] = key * (85 if stored == "L;2" else 17)
    if isinstance(key, tuple) and stored == "RGB;16B":  # two 16-bit colours may be one in 8 bits
        raise BridgeError(
            f"{name} has a transparent colour of 16 bits; save it with 8 bits, or with "
            "an alpha channel"
        )


def _check_key_in_memory(name: str, image: Image.Image) -> None:
    """Refuse a transparent colour that the pixels of a PNG do not tell, whatever was loaded."""
    key = image.info.get("transparency")
    if image.format not in (None, "PNG"):
        return
    # Greys of 2 and 4 bits are multiples of 85 and 17, and their key is from 0 to 15.
    few_bits = image.mode == "L" and isinstance(key, int) and 0 < key < 16
    if isinstance(key, tuple) or (few_bits and not np.any(np.asarray(image) % 17)):
        raise BridgeError(
            f"{name} has a transparent colour of an unknown number of bits; give the path or the "
            "bytes of its file, or an alpha channel"
        )


def _of_wide_grey(name: str, image: Image.Image, handle: Image.Image) -> Image.Image:
    """Grey of 12, 16 or 32-bit integers, or of floating-point numbers, as 8-bit RGB."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    tags = getattr(handle, "tag_v2", {})  # of a TIFF
    known = handle.format not in (None, "TIFF")  # else mode I has 32 bits
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and known)
    white = 1 if image.mode == "F" else 4095 if tags.get(_BITS) == (12,) else 65535
    if not ((image.mode == "F" or sixteen) and 0 <= low <= high <= white):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise BridgeError(
            f"{name} has {kind} grey values from {low:g} to {high:g}, of which black and "
            "white are unknown; save it with 8 or 16 bits"
        )
    grey = np.round(values * (255 / white))
    if tags.get(_PHOTOMETRIC) == _ZERO_IS_WHITE:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
