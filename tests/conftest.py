"""What every test shares: GPU tests skip with their reason where there is none, and hypothesis keeps no clock."""

import os
from functools import cache

import hypothesis
import pytest

# No deadlines: a slow machine is not a bug. In CI the same examples each time; elsewhere new ones, and a failure prints
# how to see it again.
hypothesis.settings.register_profile("flowgraph", deadline=None, print_blob=True)
hypothesis.settings.register_profile("flowgraph-ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("flowgraph-ci" if os.environ.get("CI") else "flowgraph")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and (reason := why_no_gpu()):
        pytest.skip(reason)


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
