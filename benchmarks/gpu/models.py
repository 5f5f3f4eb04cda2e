"""The workloads, each written once over the functions of a rival (`benchmarks.gpu.rivals`). No rival's library in this module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

RATE = 1e-3
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A workload.

    title       the row of the table
    make        small -> (parameters by name, batch as a list of arrays of the host)
    function    (rival, parameters, *batch) -> the loss, where it ``trains``; else results
    trains      whether a step ends with new parameters
    on_host     whether the batch is on the host before each step, so that copies count
    """

    title: str
    make: Callable[[bool], tuple[Arrays, list[Any]]]
    function: Callable[..., Any]
    trains: bool = True
    on_host: bool = True


def normal(random: np.random.Generator, *shape: int, scale: float | None = None) -> Any:
    fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
    return random.standard_normal(shape, "f4") * np.float32(np.sqrt(2 / fan) if scale is None else scale)


def toy(small: bool) -> tuple[Arrays, list[Any]]:
    return {}, [np.float32(-2), np.float32(5), np.float32(-4)]


def mlp(small: bool) -> tuple[Arrays, list[Any]]:
    r = np.random.default_rng(0)
    sizes = (784, 625, 10)
    parameters = {f"w{i}": normal(r, a, b) for i, (a, b) in enumerate(pairwise(sizes))}
    parameters |= {f"b{i}": np.zeros(b, "f4") for i, b in enumerate(sizes[1:])}
    return parameters, [normal(r, 128, 784, scale=1.0), r.integers(0, 10, 128)]


def mlp_loss(b: Any, p: Arrays, x: Any, labels: Any) -> Any:
    return b.cross_entropy(b.relu(x @ p["w0"] + p["b0"]) @ p["w1"] + p["b1"], labels)


def lenet(small: bool) -> tuple[Arrays, list[Any]]:
    r = np.random.default_rng(0)
    shapes = {"c0": (20, 1, 5, 5), "c1": (50, 20, 5, 5), "w0": (800, 500), "w1": (500, 10)}
    parameters = {name: normal(r, *shape) for name, shape in shapes.items()}
    return parameters, [normal(r, 128, 1, 28, 28, scale=1.0), r.integers(0, 10, 128)]


def lenet_loss(b: Any, p: Arrays, x: Any, labels: Any) -> Any:
    h = b.max_pool(b.relu(b.conv(x, p["c0"])), 2)
    h = b.max_pool(b.relu(b.conv(h, p["c1"])), 2)
    return b.cross_entropy(b.relu(b.reshape(h, (-1, 800)) @ p["w0"]) @ p["w1"], labels)


BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


def resnet(small: bool) -> tuple[Arrays, list[Any]]:
    """ResNet-50; where ``small``, with one block a stage, on 2 pictures of 64 x 64."""
    r = np.random.default_rng(0)
    parameters: Arrays = {}

    def conv(name: str, out: int, into: int, size: int) -> None:
        parameters[name] = normal(r, out, into, size, size)
        parameters[f"{name}/scale"], parameters[f"{name}/offset"] = np.ones(out, "f4"), np.zeros(out, "f4")

    conv("stem", 64, 3, 7)
    channels = 64
    for stage, (width, count, _) in enumerate(BLOCKS):
        for block in range(1 if small else count):
            name = f"{stage}/{block}"
            conv(f"{name}/a", width, channels, 1)
            conv(f"{name}/b", width, width, 3)
            conv(f"{name}/c", 4 * width, width, 1)
            if block == 0:
                conv(f"{name}/beside", 4 * width, channels, 1)
            channels = 4 * width
    parameters["w"] = normal(r, 2048, 1000, scale=0.01)
    batch, size = (2, 64) if small else (64, 224)
    return parameters, [normal(r, batch, 3, size, size, scale=1.0), r.integers(0, 1000, batch)]


def resnet_loss(b: Any, p: Arrays, x: Any, labels: Any) -> Any:
    def unit(x: Any, name: str, stride: int = 1, padding: int = 0) -> Any:
        return b.batch_norm(b.conv(x, p[name], stride, padding), p[f"{name}/scale"], p[f"{name}/offset"])

    h = b.max_pool(b.relu(unit(x, "stem", 2, 3)), 3, 2, 1)
    for stage, (_, count, stride) in enumerate(BLOCKS):
        for block in range(count):
            name, step = f"{stage}/{block}", stride if block == 0 else 1
            if f"{name}/a" not in p:
                break
            y = b.relu(unit(h, f"{name}/a"))
            y = unit(b.relu(unit(y, f"{name}/b", step, 1)), f"{name}/c")
            h = b.relu(y + (unit(h, f"{name}/beside", step) if block == 0 else h))
    return b.cross_entropy(b.mean(h, (2, 3)) @ p["w"], labels)


def transformer(small: bool) -> tuple[Arrays, list[Any]]:
    r = np.random.default_rng(0)
    width, batch, tokens = (64, 2, 16) if small else (1024, 8, 1024)
    shapes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    parameters = {name: normal(r, *shape, scale=0.02) for name, shape in shapes.items()}
    for i in range(2):
        parameters |= {f"scale{i}": np.ones(width, "f4"), f"offset{i}": np.zeros(width, "f4")}
    return parameters, [normal(r, batch, tokens, width, scale=1.0)]


def transformer_loss(b: Any, p: Arrays, x: Any) -> Any:
    batch, tokens, width = b.shape(x)
    heads = 16
    h = b.layer_norm(x, p["scale0"], p["offset0"]) @ p["qkv"]
    q, k, v = (b.permute(b.reshape(part, (batch, tokens, heads, width // heads)), (0, 2, 1, 3)) for part in b.split(h, 3))
    weights = b.softmax(q @ b.permute(k, (0, 1, 3, 2)) * (width // heads) ** -0.5)
    x = x + b.reshape(b.permute(weights @ v, (0, 2, 1, 3)), (batch, tokens, width)) @ p["out"]
    y = x + b.gelu(b.layer_norm(x, p["scale1"], p["offset1"]) @ p["up"]) @ p["down"]
    return b.mean(y * y, (0, 1, 2))


def numbers(small: bool) -> tuple[Arrays, list[Any]]:
    return {}, [normal(np.random.default_rng(0), 10**5 if small else 10**8, scale=1.0)]


def wide(small: bool) -> tuple[Arrays, list[Any]]:
    """Sixteen chains of products that know nothing of each other."""
    r = np.random.default_rng(0)
    size = 64 if small else 512
    return {f"w{i}": normal(r, size, size, scale=size**-0.5) for i in range(16)}, [normal(r, size, size, scale=1.0)]


def wide_values(b: Any, p: Arrays, x: Any) -> Any:
    ends = []
    for i in range(16):
        y = x
        for _ in range(4):
            y = b.tanh(y @ p[f"w{i}"])
        ends.append(y)
    return sum(ends[1:], ends[0])


def copies(small: bool) -> tuple[Arrays, list[Any]]:
    """A batch as large as its product takes time, so that a copy that overlaps is free."""
    r = np.random.default_rng(0)
    size = 64 if small else 4096
    return {"w": normal(r, size, size, scale=size**-0.5)}, [normal(r, size, size, scale=1.0)]


MODELS = {
    "toy": Model("toy call", toy, lambda b, p, x, y, z: (x + y) * z, trains=False),
    "mlp": Model("MLP step, batch 128", mlp, mlp_loss),
    "lenet": Model("LeNet step, batch 128", lenet, lenet_loss),
    "resnet": Model("ResNet-50 step, batch 64", resnet, resnet_loss),
    "transformer": Model("transformer block step, 8 x 1024 tokens, 16 heads, width 1024", transformer, transformer_loss, on_host=False),
    "gelu": Model("gelu of 1e8", numbers, lambda b, p, x: b.gelu(x), trains=False, on_host=False),
    "copy": Model("copy of 1e8, on the device", numbers, lambda b, p, x: b.copy(x), trains=False, on_host=False),
    "wide": Model("16 chains of products", wide, wide_values, trains=False, on_host=False),
    "overlap": Model("a batch of 64 MB and two products", copies, lambda b, p, x: b.mean((x @ p["w"]) @ p["w"], (0, 1)), trains=False),
}
