"""The MNIST digits from their four IDX files: found on this machine or downloaded, and checked.

The files may lie as they are, or compressed as ``.xz`` or ``.gz``. Their content is compared with known sums, so that
it does not matter where they come from.
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FileFormatError
from ..io.files import atomic_path

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


class Mnist(NamedTuple):
    """The arrays of MNIST: 60,000 digits to train on and 10,000 to test with.

    train_images  (60000, 28, 28) uint8, 0 the background and 255 full ink
    train_labels  (60000,) uint8, the digits 0 to 9
    test_images   (10000, 28, 28) uint8
    test_labels   (10000,) uint8
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]

    def __repr__(self) -> str:
        return f"Mnist({len(self.train_labels)} training images, {len(self.test_labels)} test images)"


def mnist(directory: str | os.PathLike[str] | None = None, *, download: bool = True) -> Mnist:
    """The MNIST handwritten digits, with their sums checked.

    directory  where to look first, itself and a folder ``mnist`` in it. Next come the folder that the environment
               variable FLOWGRAPH_DATA names, ``examples/data`` of a checkout of flowgraph, and the user's cache
    download   fetch what is nowhere from a public mirror (11 MB) and keep it in the user's cache
    returns    ``Mnist``, four uint8 arrays of the caller's own; 0.7 s from .xz, 0.25 s from .gz
    raises     FileFormatError for a file that is truncated, damaged or not MNIST's; DataError if there is none
    source     Yann LeCun, Corinna Cortes, Christopher J. C. Burges; commonly given as CC BY-SA 3.0

    >>> digits = fg.data.mnist()
    >>> digits.train_images.shape, digits.train_images.dtype
    ((60000, 28, 28), dtype('uint8'))
    >>> digits.test_labels[:5]
    array([7, 2, 1, 0, 4], dtype=uint8)
    """
    # One after the other: a thread for each file saves little (0.61 s for 0.67), as one file is most of the work.
    return Mnist(*(_read(file, _find(file, directory) or _fetch(file, directory, download)) for file in FILES))


class _File(NamedTuple):
    shape: tuple[int, ...]
    sha256: str  # of the uncompressed file; its MD5 is the published one, see examples/data/mnist/README.md
    name: str


FILES = (
    _File(
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-images-idx3-ubyte",
    ),
    _File((60000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", "train-labels-idx1-ubyte"),
    _File(
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-images-idx3-ubyte",
    ),
    _File((10000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", "t10k-labels-idx1-ubyte"),
)


def _find(file: _File, directory: str | os.PathLike[str] | None) -> Path | None:
    for folder in _folders(directory):
        for ending in ("", ".xz", ".gz"):
            path = folder / (file.name + ending)
            if path.is_file():
                return path
    return None


def _folders(directory: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Every folder to look in, first things first."""
    for given in (directory, os.environ.get("FLOWGRAPH_DATA")):
        if given:
            yield from (Path(given), Path(given) / "mnist")
    # Beside the package in a checkout; from where the user stands, if the package is installed and the checkout is not.
    yield from (parent / "examples" / "data" / "mnist" for parent in (Path(__file__).parents[2], Path.cwd()))
    yield _cache()


def _cache() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "flowgraph" / "mnist"


def _read(file: _File, path: Path) -> NDArray[np.uint8]:
    content = _decompressed(file, path)
    _check(file, path, content)
    return np.frombuffer(content, np.uint8, offset=_header_size(file)).reshape(file.shape).copy()


def _decompressed(file: _File, path: Path) -> bytes:
    # One byte more than is expected, and no further: that tells a file that is too long, whatever it would expand to.
    limit = _header_size(file) + int(np.prod(file.shape)) + 1
    try:
        with _open(path) as stream:
            return stream.read(limit)
    except FileNotFoundError:
        raise
    except Exception as error:  # EOFError, LZMAError, BadGzipFile, zlib.error, OSError: each says it in its own way
        raise _damaged(path, f"it cannot be read ({type(error).__name__}: {error})") from error


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".xz":
        import lzma

        return lzma.open(path)
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path))
    return path.open("rb")


def _check(file: _File, path: Path, content: bytes) -> None:
    import hashlib

    # IDX: two zero bytes, 8 for unsigned bytes, the number of dimensions; then each size as four bytes, big-endian.
    magic = bytes((0, 0, 8, len(file.shape)))
    if content[:4] != magic:
        raise _damaged(path, f"it starts with {content[:4].hex() or 'nothing'} where IDX has {magic.hex()}")
    shape = tuple(np.frombuffer(content[4 : _header_size(file)].ljust(4 * len(file.shape), b"\0"), ">u4").tolist())
    if shape != file.shape:
        raise _damaged(path, f"it says that it holds an array of shape {shape}, and not {file.shape}")
    expected = _header_size(file) + int(np.prod(file.shape))
    if len(content) < expected:
        raise _damaged(path, f"it is truncated: {len(content)} bytes of {expected}")
    if len(content) > expected:
        raise _damaged(path, f"it is longer than {expected} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise _damaged(path, f"its SHA-256 is {found}, and not {file.sha256}")


def _header_size(file: _File) -> int:
    return 4 + 4 * len(file.shape)


def _damaged(path: Path, what: str) -> FileFormatError:
    return FileFormatError(
        f"{path} is not the MNIST file of that name: {what}",
        help="delete this file: the next call looks for it elsewhere, and downloads it if it is nowhere",
    )


def _fetch(file: _File, directory: str | os.PathLike[str] | None, download: bool) -> Path:
    """The path of ``file`` in the user's cache, just downloaded."""
    if not download:
        raise _nowhere(file, directory, "is not on this machine, and download=False")
    import urllib.request  # 30 ms that only a download should cost

    url = MIRROR + file.name + ".gz"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            data = answer.read(2**25)
    except OSError as error:  # URLError and a socket's timeout are OSErrors
        raise _nowhere(file, directory, f"is not on this machine, and {url} cannot be reached ({error})") from error
    folder = _cache()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file.name}.gz"
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
        try:
            _check(file, path, _decompressed(file, temporary))
        except FileFormatError as error:
            # Not kept, so there is nothing to delete: a proxy's page in place of the file, perhaps.
            raise DataError(
                f"mnist: what came from {url} is not that file",
                help=f"try again, or put the file into {folder} by hand",
            ) from error
    return path


def _nowhere(file: _File, directory: str | os.PathLike[str] | None, what: str) -> DataError:
    names = [f"{each.name}.gz" for each in FILES]
    return DataError(
        f"mnist: {file.name} {what}",
        rows=[("looked", "\n".join(map(str, dict.fromkeys(_folders(directory)))))],
        help=f"put the files {', '.join(names[:-1])} and {names[-1]}\n"
        "(or the same as .xz, or plain) into one of these folders;\n"
        f"they are at {MIRROR} and in examples/data/mnist of flowgraph's repository",
    )
