"""Devices: what is listed, where nodes are placed, and that several devices give the bits of one."""

import sys
from types import SimpleNamespace

import numpy as np

import flowgraph as fg

# --- what there is


def test_the_host_is_listed_with_its_memory_and_its_libraries():
    host = fg.devices()[0]
    assert host.name == "cpu:0" and host.processor and not host.missing
    assert host.memory_bytes > 2**20 and host.libraries["NumPy"] == np.__version__
    assert "openblas" in host.libraries or len(host.libraries) > 1
    assert str(host).startswith(f"cpu:0: {host.processor}; {host.memory_bytes / 2**30:.1f} GiB; NumPy {np.__version__}")


def test_a_gpu_that_is_missing_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert str(fg.devices()[1]) == 'cuda: cannot be used: CuPy is not installed: pip install "flowgraph[cuda12]" or "flowgraph[cuda13]"'


def cupy(**runtime):
    """As much of CuPy as the listing asks."""
    return SimpleNamespace(__version__="13.0", cuda=SimpleNamespace(runtime=SimpleNamespace(runtimeGetVersion=lambda: 12040, **runtime)))


def test_gpus_that_cupy_finds_are_listed(monkeypatch):
    properties = {"name": b"NVIDIA Some", "totalGlobalMem": 2**33}
    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=lambda: 2, getDeviceProperties=lambda index: properties))
    _, first, second = fg.devices()
    assert (first.name, second.name) == ("cuda:0", "cuda:1")
    assert str(first).startswith("cuda:0: NVIDIA Some; 8.0 GiB; CuPy 13.0, CUDA 12.4; cannot be used: this version")


def test_a_driver_that_fails_is_a_reason_and_no_error(monkeypatch):
    def fails():
        raise RuntimeError("cudaErrorInsufficientDriver: the driver is too old")

    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=fails))
    assert fg.devices()[1].missing == "CuPy 13.0 finds no GPU: cudaErrorInsufficientDriver: the driver is too old"
    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=lambda: 0))
    assert fg.devices()[1].missing == "CuPy 13.0 finds no GPU"
