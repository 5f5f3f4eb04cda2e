"""What every test shares: GPU tests skip with their reason where there is none, hypothesis keeps no clock, and errors are read whole."""

import ctypes
import mmap
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import hypothesis
import numpy as np
import pytest

import flowgraph as fg

# No deadlines: a slow machine is not a bug. In CI the same examples each time; elsewhere new ones, and a failure prints
# how to see it again.
hypothesis.settings.register_profile("flowgraph", deadline=None, print_blob=True)
hypothesis.settings.register_profile("flowgraph-ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("flowgraph-ci" if os.environ.get("CI") else "flowgraph")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and (reason := why_no_gpu()):
        pytest.skip(reason)
    if item.get_closest_marker("frees_at_once") is not None and not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("without a global lock, what one thread has made and another lets go of is free once the first runs again")


@pytest.fixture
def graph() -> Iterator[fg.Graph]:
    """What a test builds goes there."""
    with fg.Graph() as graph:
        yield graph


@pytest.fixture
def session(graph: fg.Graph) -> Iterator[fg.Session]:
    """One on that graph, with one thread; a file of tests may have another of its own."""
    with fg.Session(graph, threads=1) as session:
        yield session


@pytest.fixture
def cupy() -> Iterator[Any]:
    """What stands for CuPy meanwhile; a file of tests may have another of its own."""
    from tests.stand_in import standing_in

    with standing_in() as module:
        yield module


@pytest.fixture(scope="module")
def own_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of compiled kernels for the tests of one file."""
    from flowgraph.jit.kernels import _compiler

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWGRAPH_CACHE", str(tmp_path_factory.mktemp("kernels")))
        _compiler.cache_clear()
        yield
    _compiler.cache_clear()


@cache
def why_no_gpu() -> str:
    """Why no test can use a GPU here; empty where one can."""
    try:
        import cupy
    except ImportError:
        return 'CuPy is not installed: pip install "flowgraph[cuda12]" or "flowgraph[cuda13]"'
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own classes, or a RuntimeError where the driver is missing or too old
        return f"CuPy finds no CUDA device: {error}"
    return "" if count else "CuPy finds no CUDA device"


@pytest.fixture
def text_of() -> Callable[[BaseException], str]:
    """What an error says, with LINE in place of the numbers of lines in test files, and without carets, whose place depends on these."""
    return lambda error: re.sub(r"\n +\^+(?=\n|$)", "", re.sub(r"(test_\w+\.py):\d+", r"\1:LINE", str(error)))


@pytest.fixture
def refused() -> Callable[..., fg.FlowgraphError]:
    """The error that a function raises, once it is seen to name a line of that function as the user's, in its text too."""

    def check(make: Callable[..., Any], *arguments: Any) -> fg.FlowgraphError:
        with pytest.raises(fg.FlowgraphError) as caught:
            make(*arguments)
        error = caught.value
        assert error.call is not None, error
        lines = {line for _, _, line in make.__code__.co_lines() if line}
        assert error.call.location.line in lines, f"line {error.call.location.line} is none of {sorted(lines)}:\n{error}"
        assert error.node is not None or error.call.location.text in str(error)  # (of a node, its own line is shown)
        return error

    return check


@pytest.fixture
def guarded() -> Callable[[np.ndarray, bool], np.ndarray]:
    """`guarded_copy`, where it can be made."""
    if sys.platform == "win32":
        pytest.skip("needs mprotect")
    return guarded_copy


def guarded_copy(x: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy of an array; when the memory before or behind it is touched, the process ends.

    Only one of the two limits is exact, as memory is protected page by page: that behind it if ``at_end``.
    """
    page = mmap.PAGESIZE
    length = max(1, -(-x.nbytes // page)) * page
    memory = mmap.mmap(-1, length + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for guard in (address, address + page + length):
        assert protect(guard, page, 0) == 0
    result = np.frombuffer(memory, x.dtype, x.size, page + (length - x.nbytes if at_end else 0)).reshape(x.shape)
    result[...] = x
    return result
