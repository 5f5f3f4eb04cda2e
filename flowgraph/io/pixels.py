"""Images as arrays of bytes: several of them as one sheet, values as grey, and PNG files by zlib alone."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from .numbers import as_numbers

Limits = tuple[float, float] | None
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def as_images(images: Any, what: str) -> np.ndarray[Any, Any]:
    """``images`` as an array (count, height, width, channels), with 1, 3 or 4 channels; ``what`` takes them begins the message.

    images   (count, height, width), or with channels as convolutions have them, (count, channels, height, width), or last
    raises   ShapeError for other shapes, ArgumentError where there are none
    """
    array = as_numbers(images, f"{what}: images")
    given = array.shape
    if array.ndim == 3:
        array = array[..., None]
    elif array.ndim == 4 and array.shape[-1] not in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    if array.ndim != 4 or array.shape[-1] not in (1, 3, 4):
        raise ShapeError(
            f"{what}: images are (count, height, width), or (count, channels, height, width) with 1, 3 or 4 channels, got {given}",
            help="array.reshape(-1, 28, 28) makes images of rows of pixels; array[None] makes several of one",
        )
    if not array.size:
        raise ArgumentError(f"{what}: there are none in an array {given}")
    return array


def as_bytes(images: np.ndarray[Any, Any], limits: Limits) -> np.ndarray[Any, Any]:
    """``images`` as uint8. What is NaN is black.

    limits  the values that become black and white; None: bytes stay as they are, others go from the least to the largest
    """
    if limits is None and images.dtype == np.uint8:
        return images
    values = images.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = limits if limits is not None else (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    scaled = (values - low) * (255 / ((high - low) or 1.0))
    return np.nan_to_num(np.clip(scaled, 0, 255), nan=0.0).round().astype(np.uint8)


def columns_of(count: int, columns: int | None) -> int:
    """How many of ``count`` images stand in a row: as asked, or as many as make the sheet somewhat wider than high."""
    return min(math.ceil(math.sqrt(count * 1.6)) if columns is None else columns, count)


def sheet(images: np.ndarray[Any, Any], columns: int, gap: int, between: Any) -> np.ndarray[Any, Any]:
    """Images (count, height, width, ...) as one, row by row, with ``gap`` pixels of the value ``between`` between them."""
    count, height, width, *rest = images.shape
    rows = math.ceil(count / columns)
    cells = np.full((rows * columns, height + gap, width + gap, *rest), between, images.dtype)
    cells[:count, :height, :width] = images
    height, width = height + gap, width + gap
    whole = cells.reshape(rows, columns, height, width, *rest).swapaxes(1, 2).reshape(rows * height, columns * width, *rest)
    return whole[: rows * height - gap, : columns * width - gap]


def png(image: np.ndarray[Any, Any]) -> bytes:
    """The PNG file of an image (height, width, channels), uint8, with 1, 3 or 4 channels: grey, RGB, RGBA."""
    height, width, channels = image.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # before each line the number of its filter: none
    lines[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts]
    return SIGNATURE + b"".join(chunks)
