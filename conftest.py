"""What the examples in docstrings find ready: ``fg``, ``np``, and a fresh ``graph`` with its ``session``.

It lies beside ``flowgraph/`` and not in ``tests/``, because pytest looks for it in the folders above a docstring.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("MPLBACKEND", "agg")  # a test opens no window


@pytest.fixture(autouse=True, scope="session")
def kernels() -> Iterator[None]:
    """Keep compiled kernels in a folder of their own, for the tests to share, and not in the user's."""
    folder = tempfile.mkdtemp(prefix="flowgraph-kernels-")
    os.environ["FLOWGRAPH_CACHE"] = folder
    yield
    shutil.rmtree(folder, ignore_errors=True)


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
