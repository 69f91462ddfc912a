"""Images in memory: their pixels or the bytes of their file, named by content."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from vlm_bridge.data.content import file_hash
from vlm_bridge.data.image import MAX_PIXELS, decode_image, read_image, seen_image
from vlm_bridge.errors import BridgeError, got

#: Most bytes of an image file in memory.
MAX_IMAGE_BYTES = 2**28


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """An image in memory; two are equal if their content is.

    Attributes:
        data: the bytes of an image file, or RGB pixels row by row, 3 bytes each.
        size: width and height of pixels; None for the bytes of a file.
        digest: its identity, SHA-256. That of the bytes of a file is that of the file; that of
            pixels is of size and pixels, and differs from that of any file with these pixels.

    Example:
        >>> grey = Picture.of(np.full((2, 3), 7, dtype=np.uint8))
        >>> grey.size, grey.open().getpixel((0, 0)), grey == Picture.of(grey.open())
        ((3, 2), (7, 7, 7), True)
    """

    data: bytes
    size: tuple[int, int] | None = None
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        head = b"" if self.size is None else f"pixels\0{self.size[0]}x{self.size[1]}\0".encode()
        object.__setattr__(self, "digest", hashlib.sha256(head + self.data).hexdigest())

    @classmethod
    def of(cls, value: Any) -> Picture:
        """A copy of an image: a PIL image, an array of pixels, or the bytes of an image file.

        Pixels become RGB as a viewer shows them: turned by EXIF, laid on white where transparent.

        Args:
            value: a PIL image of one frame; uint8 (height, width), (height, width, 3) for RGB or
                (height, width, 4) for RGBA; or bytes, which are decoded when they are needed.

        Raises:
            BridgeError: another type, shape or dtype, no pixels, more than `MAX_PIXELS` pixels or
                `MAX_IMAGE_BYTES` bytes.
        """
        if isinstance(value, Picture):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            if not 0 < len(value) <= MAX_IMAGE_BYTES:
                raise BridgeError(
                    f"an image of {len(value)} bytes is given; it has 1 to {MAX_IMAGE_BYTES}"
                )
            return cls(bytes(value))
        if isinstance(value, np.ndarray):
            value = _of_array(value)
        if not isinstance(value, Image.Image):
            raise BridgeError(f"{got(value)} is no image; give {_ACCEPTED}")
        seen = seen_image(value, "the image in memory")
        return cls(seen.tobytes(), seen.size)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"image {self.digest[:12]}"

    def open(self) -> Image.Image:
        """The image as RGB pixels.

        Raises:
            BridgeError: bytes that are no image file, or one that `read_image` refuses.
        """
        if self.size is None:
            return decode_image(self.data, f"the {self.name}")
        return Image.frombytes("RGB", self.size, self.data)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{self.name} in memory>"


#: How an item holds an image: the path of a file, or the image itself.
ImageRef: TypeAlias = Path | Picture

_ACCEPTED = (
    "a path, a PIL image, a uint8 array (height, width), (height, width, 3) or (height, width, 4), "
    "or the bytes of an image file"
)


def image_ref(value: Any) -> ImageRef:
    """A path, or the `Picture` of an image in memory; `Picture.of` says what can be one."""
    if isinstance(value, str | os.PathLike):
        return Path(value)
    return Picture.of(value)


def open_image(image: ImageRef) -> Image.Image:
    """The RGB pixels of an image, as `read_image` reads a file."""
    return image.open() if isinstance(image, Picture) else read_image(image)


def content_of(image: ImageRef) -> str:
    """SHA-256 of an image: of its file, or the digest of one in memory."""
    return image.digest if isinstance(image, Picture) else file_hash(image, "image")


def _of_array(array: np.ndarray[Any, Any]) -> Image.Image:
    """A PIL image of an array; its pixels are counted before they are copied."""
    if array.dtype != np.uint8:
        raise BridgeError(
            f"an image is given as an array of {array.dtype}, whose black and white are unknown; "
            "scale it to 0 to 255 and give uint8"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise BridgeError(f"an array of shape {array.shape} is no image; give {_ACCEPTED}")
    if not 0 < array.shape[0] * array.shape[1] <= MAX_PIXELS:
        raise BridgeError(
            f"an image of {array.shape[1]} x {array.shape[0]} pixels is given; it has 1 to "
            f"{MAX_PIXELS}"
        )
    return Image.fromarray(np.ascontiguousarray(array))
