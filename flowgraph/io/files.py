"""Writing a file so that it is there in full or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ArgumentError


def as_path(path: Any, what: str) -> Path:
    """``path`` as a Path. raises ArgumentError for what is none, as a session in the wrong place."""
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"{what}: the path of a file is expected, got {path!r:.80}")
    return Path(path)


def variables_of(session: Any, what: str) -> Any:
    """The variables of ``session``. raises ArgumentError for what has none with values, as a graph, or a path in its place."""
    variables = getattr(session, "variables", None)
    if not isinstance(variables, Mapping):
        raise ArgumentError(f"{what}: a session is expected, got {session!r:.80}", help="it holds the values of the variables")
    return variables


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` when the block ends, and is removed if the block raises.

    path    file to write, new or old; its folder has to exist. A symbolic link stays; the file it leads to is replaced
    yields  the path of an empty file in the same folder with the same ending. What is written there reaches the disk
            (fsync) before it takes the place of ``path``, in one step: readers see the old file or the new one
    raises  FileNotFoundError without the folder, IsADirectoryError where ``path`` is a folder, else what writing raises

    >>> from flowgraph.io.files import atomic_path
    >>> with atomic_path("notes.txt") as temporary:
    ...     temporary.write_text("all or nothing")
    14
    >>> Path("notes.txt").read_text()
    'all or nothing'
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder to write into", str(target.parent))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "cannot write a file where a folder is", str(target))
    # In the same folder, as only within one file system does a file take another's place in one step.
    temporary = target.with_name(f".{target.stem[:100]}-{os.urandom(6).hex()}{target.suffix}")
    # Made here, to be sure that the name is nobody else's, and to see which permissions a new file gets.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    mode = (target.stat() if target.exists() else os.fstat(descriptor)).st_mode
    os.close(descriptor)
    try:
        yield temporary
        os.chmod(temporary, stat.S_IMODE(mode))  # a library may have made the file anew: safetensors' only its owner can read
        _sync(temporary, os.O_RDWR)
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C leaves nothing behind either
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _sync(target.parent, os.O_RDONLY)  # the new name, too, is to survive a loss of power


def _sync(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
