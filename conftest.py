"""What the examples in docstrings find ready: ``fg``, ``np``, and a fresh ``graph`` with its ``session``.

It lies beside ``flowgraph/`` and not in ``tests/``, because pytest looks for it in the folders above a docstring.
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("MPLBACKEND", "agg")  # a test opens no window


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled kernels in a folder of their own, for all tests and all processes that run them, and not in the user's."""
    if not is_worker(config):
        os.environ["FLOWGRAPH_CACHE"] = tempfile.mkdtemp(prefix="flowgraph-kernels-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not is_worker(config):
        shutil.rmtree(os.environ.pop("FLOWGRAPH_CACHE"), ignore_errors=True)


def pytest_collection_finish() -> None:
    """Spare each collection of garbage what 30,000 tests consist of: those that collect often took minutes."""
    gc.collect()
    gc.freeze()


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of the processes of ``pytest -n``, which have the environment of the first one."""
    return hasattr(config, "workerinput")


@pytest.fixture(autouse=True)
def doctest_names(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each docstring its own default graph, a session on it, and a folder of its own to write into."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return

    import numpy as np

    import flowgraph as fg

    folder: Path = request.getfixturevalue("tmp_path")
    monkeypatch.chdir(folder)
    with fg.Graph() as graph, fg.Session(graph, threads=1, seed=0) as session:
        doctest_namespace.update(fg=fg, np=np, graph=graph, session=session)
        yield
