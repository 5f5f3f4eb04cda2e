"""The GPU benchmarks: their models compute the same on a GPU as on the host, and a machine without one is told so."""

import sys
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import __main__ as bench
from benchmarks.gpu.models import MODELS
from benchmarks.gpu.rivals import Flowgraph
from tests.stand_in import standing_in


@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet"])
def test_a_model_computes_the_same_on_a_gpu(name):
    results = []
    with standing_in():
        for device in ("cuda", "cpu"):
            step, wait, on_host = Flowgraph(device, tf32=False).prepare(MODELS[name], small=True)
            results.append([on_host(step()) for _ in range(3)])
            wait()
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-3, 1e-4)


def test_a_machine_without_a_gpu_is_told_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert bench.main([]) == 0
    assert "nothing to measure: CuPy is not installed" in capsys.readouterr().err


def test_the_table_compares_with_the_best():
    rows: list[dict[str, Any]] = [
        {"model": "toy", "rival": "flowgraph", "state": "measured", "reason": "", "times": [2e-5, 1e-5, 3e-5]},
        {"model": "toy", "rival": "torch", "state": "measured", "reason": "", "times": [4e-5]},
        {"model": "toy", "rival": "jax", "state": "not installed", "reason": "", "times": []},
    ]
    assert bench.table(rows).splitlines()[2:] == [
        "| toy call | flowgraph | 20.0 us | 10.0 us to 30.0 us |  |",
        "| toy call | torch | 40.0 us | 40.0 us to 40.0 us | 0.50 x |",
        "| toy call | jax | not installed |  | |",
    ]
