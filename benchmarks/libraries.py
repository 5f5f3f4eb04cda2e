"""The rivals' libraries, loaded only when a worker asks, with their threads set; and a step of training as each of them writes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.workload import Array, Setup


def load_torch(setup: Setup) -> ModuleType:
    torch = import_module("torch")
    torch.set_num_threads(setup.threads)
    return torch


def in_layout(tensors: Iterable[Any], layout: Any) -> list[Any]:
    """Torch's tensors, those of four axes in the memory format ``layout``."""
    return [p.to(memory_format=layout) if p.ndim == 4 else p for p in tensors]


def torch_step(optimiser: Any, loss: Any) -> float:
    """What follows the forward pass in torch; gives the loss."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.item())


class JaxTraining:
    """Gradient descent in one function that JAX compiles; the old parameters are donated to it.

    loss_of     (parameters, *batch) -> scalar
    parameters  a list or dict of arrays; then those of JAX, new ones after each step
    """

    def __init__(self, loss_of: Callable[..., Any], parameters: Any, rate: float, momentum: float = 0.0) -> None:
        jax = import_module("jax")
        each = jax.tree.map

        def update(parameters: Any, velocities: Any, *batch: Any) -> Any:
            loss, change = jax.value_and_grad(loss_of)(parameters, *batch)
            if momentum:
                velocities = change = each(lambda v, g: momentum * v + g, velocities, change)
            return loss, each(lambda p, g: p - rate * g, parameters, change), velocities

        self.parameters = each(jax.numpy.array, parameters)
        self._velocities = each(jax.numpy.zeros_like, self.parameters) if momentum else None
        self._update, self._ready = jax.jit(update, donate_argnums=(0, 1)), jax.block_until_ready

    def step(self, *batch: Any) -> float:
        """One step; gives the loss."""
        loss, self.parameters, self._velocities = self._ready(self._update(self.parameters, self._velocities, *batch))
        return float(loss)

    def values(self) -> list[Array]:
        """The parameters, where they are a list."""
        return [np.asarray(p) for p in self.parameters]


def load_tensorflow(setup: Setup) -> tuple[Any, Any]:
    """TensorFlow's v1 interface in graph mode, and a session over its default graph (it sees what is added later)."""
    tf = import_module("tensorflow").compat.v1
    tf.disable_eager_execution()
    n = setup.threads
    return tf, tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=n, inter_op_parallelism_threads=n))


def tensorflow_step(tf: Any, session: Any, loss: Any, feeds: Sequence[Any], rate: float, momentum: float = 0.0) -> Callable[..., float]:
    """A function of a batch that makes a step of gradient descent and gives the loss; the variables begin now."""
    optimiser = tf.train.MomentumOptimizer(rate, momentum) if momentum else tf.train.GradientDescentOptimizer(rate)
    train = optimiser.minimize(loss)
    session.run(tf.global_variables_initializer())
    call = session.make_callable([loss, train], feed_list=list(feeds))
    return lambda *batch: float(call(*batch)[0])


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
