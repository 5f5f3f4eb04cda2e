"""The compiler: LLVM's text form to machine code of this processor, kept on disk under the hash of all that decides it.

llvmlite brings LLVM; it is an extra, and loaded when the first kernel is compiled. A cache that cannot be read or written costs time only.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..records import Record

if TYPE_CHECKING:
    from pathlib import Path

_DIGEST_BYTES = 32

# The kernels kept on disk. With more, those that were used last the longest ago go: looked at once in a process, when it keeps its first.
LIMIT_BYTES = 256 * 2**20


def is_available() -> bool:
    """Whether llvmlite is installed, for a Python whose objects lie in memory as kernels expect."""
    from importlib.util import find_spec

    return sys.implementation.name == "cpython" and find_spec("llvmlite") is not None


def require() -> None:
    """raises MissingExtraError when llvmlite is not installed."""
    if not is_available():
        raise MissingExtraError("compiled kernels need llvmlite", help='pip install "flowgraph[jit]", or leave jit=True out')


def check_whole(library: str) -> None:
    """Looks whether a library of Linux is as long as it says: to load one that was cut off ends the process.

    raises OSError where it is not
    """
    if not os.path.exists(library):
        return  # another system's has another name
    with open(library, "rb") as file:
        head = file.read(64)
    if len(head) == 64 and head[:6] == b"\x7fELF\x02\x01":  # of 64 bits, the lowest byte first
        (sections,), (size, count) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
        if os.path.getsize(library) < sections + size * count:
            raise OSError(f"{library} has been cut off: install llvmlite anew")


class Registers(Record):
    """Those of a processor for vectors: how many, of how many bytes."""

    count: int
    bytes: int

    def accumulators(self, bytes: int) -> int:
        """How many vectors of ``bytes`` may be summed up in them, with some left for operands."""
        return (self.count * 25 // 32) * self.bytes // max(bytes, self.bytes)

    @property
    def shared(self) -> int:
        """How many vectors of a tile may be loaded at once, each for several sums, beside those accumulators: else some lie in memory."""
        return min(4, self.count - self.accumulators(self.bytes) - 2)


class Target(Record):
    """What a text is written for.

    header     bytes of an object of Python before its own fields
    registers  those of the processor
    has_fma    whether it multiplies and adds with one rounding
    has_scale  whether it multiplies by powers of two in one instruction, AVX-512's
    """

    header: int
    registers: Registers
    has_fma: bool = True
    has_scale: bool = False


class Compiler:
    """Makes functions of LLVM text, one module each, and keeps them for as long as the process lives.

    cache    folder for machine code, or None
    symbols  name -> address, of what the text may refer to besides the process's own symbols
    raises   RuntimeError where llvmlite cannot be loaded

    `_lock` guards everything: LLVM works on one module at a time.
    """

    def __init__(self, cache: Path | None, symbols: Mapping[str, int]) -> None:
        try:
            import llvmlite

            check_whole(os.path.join(os.path.dirname(llvmlite.__file__), "binding", "libllvmlite.so"))
            import llvmlite.binding as llvm

            self._llvm: Any = llvm
            llvm.initialize_native_target()
        except (ImportError, OSError) as error:  # it is there, but for another system, or not whole
            raise RuntimeError(f"llvmlite cannot be loaded ({error})") from error
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features()
        wide = Registers(32, 64) if features.get("avx512f") else Registers(16, 32) if features.get("avx") else Registers(16, 16)
        is_arm = "neon" in features or llvm.get_host_cpu_name().startswith("apple")
        has_fma = bool(features.get("fma")) or is_arm
        self.target = Target(object.__basicsize__, Registers(32, 16) if is_arm else wide, has_fma, bool(features.get("avx512f")))
        processor, flags = llvm.get_host_cpu_name(), features.flatten()
        self._machine = llvm.Target.from_default_triple().create_target_machine(cpu=processor, features=flags, opt=2, reloc="pic")
        for name, address in symbols.items():
            llvm.add_symbol(name, address)
        self._for = f"{llvm.llvm_version_info} {processor} {flags}"
        self._cache = cache
        self._lock = threading.Lock()
        self._addresses: dict[str, dict[str, int]] = {}
        self.compiled = self.loaded = 0  # how many modules were compiled here, and read from the cache
        self._notes: dict[str, tuple[float, bool]] = {}  # by key: seconds that it took, and whether it came from the cache

    def address(self, text: str, function: str = "kernel") -> int:
        """The address of the function ``kernel`` of the module ``text``, or of ``bare``. raises RuntimeError for text that LLVM refuses."""
        key = _digest(f"{self._for}\n{text}".encode()).hex()
        with self._lock:
            if key not in self._addresses:
                start, compiled = time.perf_counter(), self.compiled
                code = self._read(key)
                if code is None:
                    code = self._compile(text.replace("@kernel(", f"@kernel_{key}(").replace("@bare(", f"@bare_{key}("))
                    self._write(key, code)
                    self.compiled += 1
                else:
                    self.loaded += 1
                # An engine for each: code added to one that has been finalised before was seen to read wrong constants.
                engine = self._llvm.create_mcjit_compiler(self._llvm.parse_assembly(""), self._machine)
                part = self._llvm.ObjectFileRef.from_data(code)
                engine.add_object_file(part)
                engine.finalize_object()
                self._addresses[key] = {name: engine.get_function_address(f"{name}_{key}") for name in ("kernel", "bare")}
                # Machine code stays for as long as the process: nobody can know who still holds a function.
                part.detach()
                engine.detach()
                self._notes[key] = time.perf_counter() - start, self.compiled == compiled
            return self._addresses[key][function]

    def note(self, text: str) -> tuple[float, bool] | None:
        """Of the module ``text``: the seconds that it took to have its code, and whether that came from the cache; None if it never had."""
        return self._notes.get(_digest(f"{self._for}\n{text}".encode()).hex())

    def _compile(self, text: str) -> bytes:
        module = self._llvm.parse_assembly(text)
        module.verify()
        code: bytes = self._machine.emit_object(module)
        return code

    def _read(self, key: str) -> bytes | None:
        """The code under ``key``; None when it is missing, damaged, or another user could have written it."""
        if self._cache is None:
            return None
        try:
            path = self._cache / key
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read()
            os.utime(path)  # when it was used last
            if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
                return None
        except OSError:
            return None
        digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return code if _digest(code) == digest else None

    def _write(self, key: str, code: bytes) -> None:
        """Under another name first, so that whoever reads sees all of it or nothing."""
        if self._cache is None:
            return
        from tempfile import mkstemp

        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.compiled:
                _trim(self._cache)
            handle, name = mkstemp(dir=self._cache)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_digest(code) + code)
                os.replace(name, self._cache / key)
            except BaseException:
                os.unlink(name)
                raise
        except OSError:
            self._cache = None  # a full disk or a home that is read only: no reason to try again for each kernel


def _trim(folder: Path) -> None:
    """Removes the kernels that were used last the longest ago, down to three quarters of the limit, where there are more."""
    kept = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:  # another process was first
            continue
        kept.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in kept)
    if total <= LIMIT_BYTES:
        return
    for _, size, path in sorted(kept):
        path.unlink(missing_ok=True)
        total -= size
        if total <= LIMIT_BYTES * 3 // 4:
            return


def _digest(data: bytes) -> bytes:
    from hashlib import sha256

    return sha256(data).digest()


def cache_folder() -> Path | None:
    """Where kernels are kept: ``FLOWGRAPH_CACHE`` (empty for nowhere), else flowgraph/kernels in the user's folder for caches."""
    from pathlib import Path

    chosen = os.environ.get("FLOWGRAPH_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "flowgraph" / "kernels"
    except RuntimeError:  # no home
        return None


class PyMethodDef(ctypes.Structure):
    """Python's description of a function in C."""

    _fields_ = [("name", ctypes.c_char_p), ("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]
