"""The rivals' libraries, loaded only when a worker asks, with their threads set."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.workload import Setup


def load_torch(setup: Setup) -> ModuleType:
    torch = import_module("torch")
    torch.set_num_threads(setup.threads)
    return torch


def load_tensorflow(setup: Setup) -> tuple[Any, Any]:
    """TensorFlow's v1 interface in graph mode, and a session over its default graph (it sees what is added later)."""
    tf = import_module("tensorflow").compat.v1
    tf.disable_eager_execution()
    n = setup.threads
    return tf, tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=n, inter_op_parallelism_threads=n))


def load_pytensor() -> tuple[ModuleType, ModuleType]:
    """PyTensor and its tensor operations."""
    sys.setrecursionlimit(10**6)  # it walks graphs recursively
    return import_module("pytensor"), import_module("pytensor.tensor")


def load_numexpr(setup: Setup) -> ModuleType:
    numexpr = import_module("numexpr")
    numexpr.set_num_threads(setup.threads)
    return numexpr


def load_onnxruntime(setup: Setup, model: bytes) -> Any:
    """A session of ONNX Runtime over ``model``."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def node_by_node() -> Any:
    """PyTensor's C linker without rewrites.

    With its rewrites, even without fusion, a random graph of 1,000 nodes turns into sums of hundreds of terms, whose
    kernels g++ does not compile within a minute; the chain of 10,000 takes as long.
    """
    return import_module("pytensor.compile.mode").Mode(linker="cvm", optimizer=None)
