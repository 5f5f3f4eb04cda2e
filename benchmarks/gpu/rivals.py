"""What the models are written over: flowgraph, torch (eager and compiled) and JAX. Each is loaded when it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.gpu.models import RATE, Model

Step = Callable[[], Any]


class Rival:
    """A library.

    device  "cpu" or "cuda"
    tf32    whether products of float32 may be computed in TF32
    """

    name = ""

    def __init__(self, device: str, tf32: bool) -> None:
        self.device, self.tf32 = device, tf32

    def prepare(self, model: Model, small: bool) -> tuple[Step, Callable[[], None], Callable[[Any], Any]]:
        """A function that asks for one step, one that waits for all steps, and one that makes NumPy's array of what a step gave."""
        raise NotImplementedError


class Flowgraph(Rival):
    """flowgraph, whose functions the class itself has."""

    name = "flowgraph"

    def __init__(self, device: str, tf32: bool) -> None:
        super().__init__(device, tf32)
        import flowgraph as fg

        self.fg = fg
        self.relu, self.gelu, self.softmax, self.tanh = fg.nn.relu, fg.nn.gelu, fg.nn.softmax, fg.tanh
        self.reshape, self.permute, self.mean = fg.reshape, fg.permute_dims, fg.mean

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
        return self.fg.nn.conv2d(x, w, stride=stride, padding=padding)

    def max_pool(self, x: Any, size: int, stride: int | None = None, padding: int = 0) -> Any:
        return self.fg.nn.max_pool2d(x, size, stride=stride, padding=padding)

    def batch_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        fg = self.fg
        mean = fg.mean(x, axis=(0, 2, 3), keepdims=True)
        wide = (1, -1, 1, 1)
        # (That the mean moves with x changes nothing of the variance: so it has no gradient to be added up, as in torch's function.)
        variance = fg.mean(fg.square(x - fg.stop_gradient(mean)), axis=(0, 2, 3), keepdims=True)
        return (x - mean) / fg.sqrt(variance + 1e-5) * fg.reshape(scale, wide) + fg.reshape(offset, wide)

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        fg = self.fg
        centred = x - fg.mean(x, axis=-1, keepdims=True)
        return centred / fg.sqrt(fg.mean(fg.square(centred), axis=-1, keepdims=True) + 1e-5) * scale + offset

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        return self.fg.mean(self.fg.nn.softmax_cross_entropy(logits, labels))

    def split(self, x: Any, parts: int) -> Any:
        return self.fg.split(x, parts, axis=-1)

    def shape(self, x: Any) -> Any:
        return x.shape

    def copy(self, x: Any) -> Any:
        return x + 0.0

    def graph(self, model: Model, small: bool) -> tuple[Any, list[Any], list[Any], list[Any]]:
        """The graph of a step, its inputs and fetches, and the batch."""
        fg = self.fg
        parameters, batch = model.make(small)
        with fg.Graph() as graph:
            inputs = [fg.placeholder(f"x{i}", np.shape(x), x.dtype) for i, x in enumerate(batch)]
            held = {name: fg.variable(value, name=name.replace("/", ".")) for name, value in parameters.items()}
            result = model.function(self, held, *inputs)
            fetches = [result]
            if model.trains:
                changes = fg.gradients(result, list(held.values()))
                fetches.append(fg.group([fg.assign(w, w - g * RATE) for w, g in zip(held.values(), changes, strict=True)]))
        return graph, inputs, fetches, batch

    def prepare(self, model: Model, small: bool) -> tuple[Step, Callable[[], None], Callable[[Any], Any]]:
        graph, inputs, fetches, batch = self.graph(model, small)
        fg = self.fg
        session = fg.Session(graph, device="cuda:0" if self.device == "cuda" else "cpu:0", tf32=self.tf32)
        call = session.function(inputs, fetches, device_arrays=self.device == "cuda")
        fed: list[Any] = batch
        if self.device == "cuda" and not model.on_host:
            import cupy

            fed = [cupy.asarray(x) for x in batch]
        return lambda: call(*fed)[0], lambda: session.device.wait(), lambda x: x.get() if hasattr(x, "get") else np.asarray(x)


class Torch(Rival):
    """torch, eager."""

    name = "torch"
    compiles = False

    def __init__(self, device: str, tf32: bool) -> None:
        super().__init__(device, tf32)
        torch = self.torch = import_module("torch")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        nn = self.nn = torch.nn.functional
        self.relu, self.tanh, self.cross_entropy = torch.relu, torch.tanh, nn.cross_entropy
        self.reshape, self.permute, self.mean = torch.reshape, torch.permute, torch.mean

    def gelu(self, x: Any) -> Any:
        return self.nn.gelu(x)

    def softmax(self, x: Any) -> Any:
        return self.torch.softmax(x, -1)

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
        return self.nn.conv2d(x, w, stride=stride, padding=padding)

    def max_pool(self, x: Any, size: int, stride: int | None = None, padding: int = 0) -> Any:
        return self.nn.max_pool2d(x, size, stride, padding)

    def batch_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return self.nn.batch_norm(x, None, None, scale, offset, training=True)

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return self.nn.layer_norm(x, scale.shape, scale, offset)

    def split(self, x: Any, parts: int) -> Any:
        return self.torch.chunk(x, parts, -1)

    def shape(self, x: Any) -> Any:
        return tuple(x.shape)

    def copy(self, x: Any) -> Any:
        return x.clone()

    def prepare(self, model: Model, small: bool) -> tuple[Step, Callable[[], None], Callable[[Any], Any]]:
        torch = self.torch
        parameters, batch = model.make(small)
        held = {name: torch.tensor(value, device=self.device, requires_grad=model.trains) for name, value in parameters.items()}
        hosted = [torch.as_tensor(x) for x in batch]
        if self.device == "cuda" and model.on_host:
            hosted = [x.pin_memory() for x in hosted]
        fed = hosted if model.on_host else [x.to(self.device) for x in hosted]

        def function(*batch: Any) -> Any:
            return model.function(self, held, *batch)

        call = torch.compile(function, mode="reduce-overhead") if self.compiles else function

        def step() -> Any:
            given = [x.to(self.device, non_blocking=True) for x in fed] if model.on_host else fed
            if not model.trains:
                with torch.no_grad():
                    return call(*given)
            loss = call(*given)
            changes = torch.autograd.grad(loss, list(held.values()))
            with torch.no_grad():
                torch._foreach_add_(list(held.values()), changes, alpha=-RATE)
            return loss.detach()

        wait = torch.cuda.synchronize if self.device == "cuda" else (lambda: None)
        return step, wait, lambda x: x.detach().cpu().numpy()


class TorchCompiled(Torch):
    """torch.compile with CUDA graphs."""

    name = "torch-compile"
    compiles = True


class Jax(Rival):
    """JAX, one compiled function a step."""

    name = "jax"

    def __init__(self, device: str, tf32: bool) -> None:
        super().__init__(device, tf32)
        jax = self.jax = import_module("jax")
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
        jnp = self.jnp = jax.numpy
        self.relu, self.tanh, self.reshape, self.permute, self.mean = jax.nn.relu, jnp.tanh, jnp.reshape, jnp.transpose, jnp.mean

    def gelu(self, x: Any) -> Any:
        return self.jax.nn.gelu(x, approximate=False)

    def softmax(self, x: Any) -> Any:
        return self.jax.nn.softmax(x, -1)

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
        return self.jax.lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2)

    def max_pool(self, x: Any, size: int, stride: int | None = None, padding: int = 0) -> Any:
        lax, step = self.jax.lax, stride or size
        rims = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
        return lax.reduce_window(x, -np.inf, lax.max, (1, 1, size, size), (1, 1, step, step), rims)

    def batch_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        mean = x.mean((0, 2, 3), keepdims=True)
        variance = self.jnp.square(x - mean).mean((0, 2, 3), keepdims=True)
        return (x - mean) * self.jax.lax.rsqrt(variance + 1e-5) * scale[:, None, None] + offset[:, None, None]

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred * self.jax.lax.rsqrt(self.jnp.square(centred).mean(-1, keepdims=True) + 1e-5) * scale + offset

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        rows = self.jnp.arange(len(labels))
        return -self.jax.nn.log_softmax(logits)[rows, labels].mean()

    def split(self, x: Any, parts: int) -> Any:
        return self.jnp.split(x, parts, -1)

    def shape(self, x: Any) -> Any:
        return x.shape

    def copy(self, x: Any) -> Any:
        return x + 0.0

    def prepare(self, model: Model, small: bool) -> tuple[Step, Callable[[], None], Callable[[Any], Any]]:
        jax = self.jax
        parameters, batch = model.make(small)
        state = {"held": jax.tree.map(self.jnp.asarray, parameters), "last": None}
        fed = batch if model.on_host else [jax.device_put(x) for x in batch]

        def function(held: Any, *batch: Any) -> Any:
            return model.function(self, held, *batch)

        def update(held: Any, *batch: Any) -> Any:
            loss, changes = jax.value_and_grad(function)(held, *batch)
            return loss, jax.tree.map(lambda p, g: p - RATE * g, held, changes)

        call = jax.jit(update, donate_argnums=0) if model.trains else jax.jit(function)

        def step() -> Any:
            if model.trains:
                state["last"], state["held"] = call(state["held"], *fed)
            else:
                state["last"] = call(state["held"], *fed)
            return state["last"]

        return step, lambda: jax.block_until_ready((state["last"], state["held"])), np.asarray


RIVALS: Sequence[type[Rival]] = (Flowgraph, Torch, TorchCompiled, Jax)
