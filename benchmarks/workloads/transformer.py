"""A training step of a transformer block: batch 8, 128 tokens, width 256, 8 heads, a network of 1024 between; SGD 0.01."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import JaxTraining, load_tensorflow, load_torch, tensorflow_step, torch_step
from benchmarks.workload import Array, Prepared, Setup, Workload, turns

BATCH, TOKENS, WIDTH, HEADS = 8, 128, 256, 8
HEAD = WIDTH // HEADS
HIDDEN = 4 * WIDTH
ROWS = BATCH * TOKENS
RATE = 0.01
EPSILON = 1e-5
BATCHES = 4
# gelu(x) = x / 2 (1 + tanh(A (x + B x^3)))
A, B = (2 / np.pi) ** 0.5, 0.044715

MATRICES = {
    "query": (WIDTH, WIDTH), "key": (WIDTH, WIDTH), "value": (WIDTH, WIDTH), "out": (WIDTH, WIDTH),
    "widen": (WIDTH, HIDDEN), "narrow": (HIDDEN, WIDTH),
}  # fmt: skip
NORMS = ("attention_norm", "network_norm")


@dataclass(frozen=True)
class Problem:
    """x and wanted (BATCHES, 8, 128, 256) float32.

    parameters    name/w and name/b for each of ``MATRICES``, name/scale and name/offset for each of ``NORMS``
    """

    x: Array
    wanted: Array
    parameters: dict[str, Array]


def problem() -> Problem:
    random = np.random.default_rng(0)
    x, wanted = random.standard_normal((2, BATCHES, BATCH, TOKENS, WIDTH), "f4")
    parameters = {}
    for name, shape in MATRICES.items():
        parameters[f"{name}/w"] = random.standard_normal(shape, "f4") * np.float32(shape[0] ** -0.5)
        # (Not zeros: a key's bias has no influence, so that of its gradient nothing but rounding errors would be compared.)
        parameters[f"{name}/b"] = random.standard_normal(shape[1], "f4") * np.float32(0.1)
    for name in NORMS:
        parameters[f"{name}/scale"], parameters[f"{name}/offset"] = np.ones(WIDTH, "f4"), np.zeros(WIDTH, "f4")
    return Problem(x, wanted, parameters)


TRANSFORMER = Workload(
    name="transformer",
    title="transformer block step",
    what="A step of SGD (rate 0.01) on a block x + attention(norm(x)), then x + network(norm(x)): batch 8, 128 tokens, width 256, 8 heads, "
    "1024 units between, gelu in its tanh form, layer norms with scale and offset, biases everywhere; mean squared error. The batch is "
    "fed from NumPy (four in turn) and the loss comes back as a number. Checked: the parameters after three steps.",
    problem=problem,
    tolerance=1e-4,
    checked_steps=3,
)
WORKLOADS = [TRANSFORMER]


@TRANSFORMER.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    p = {name: value.copy() for name, value in problem.parameters.items()}
    gradients: dict[str, Array] = {}
    turn = turns(BATCHES)

    def dense(name: str, x: Array) -> Array:
        y: Array = x @ p[f"{name}/w"]
        y += p[f"{name}/b"]
        return y

    def dense_back(name: str, x: Array, g: Array) -> Array:
        gradients[f"{name}/w"], gradients[f"{name}/b"] = x.T @ g, g.sum(axis=0)
        back: Array = g @ p[f"{name}/w"].T
        return back

    def norm(name: str, x: Array) -> tuple[Array, Array, Array]:
        centred = x - x.mean(axis=1, keepdims=True)
        inverse = 1 / np.sqrt(np.einsum("ij,ij->i", centred, centred)[:, None] / WIDTH + np.float32(EPSILON))
        centred *= inverse
        y = centred * p[f"{name}/scale"]
        y += p[f"{name}/offset"]
        return y, centred, inverse

    def norm_back(name: str, centred: Array, inverse: Array, g: Array) -> Array:
        gradients[f"{name}/scale"], gradients[f"{name}/offset"] = np.einsum("ij,ij->j", g, centred), g.sum(axis=0)
        g = g * p[f"{name}/scale"]
        along = np.einsum("ij,ij->i", g, centred)[:, None] / WIDTH
        g -= g.mean(axis=1, keepdims=True)
        g -= centred * along
        g *= inverse
        return g

    def apart(x: Array) -> Array:
        return np.ascontiguousarray(x.reshape(BATCH, TOKENS, HEADS, HEAD).transpose(0, 2, 1, 3))

    def together(x: Array) -> Array:
        return x.transpose(0, 2, 1, 3).reshape(ROWS, WIDTH)

    def step() -> float:
        k = turn()
        x = problem.x[k].reshape(ROWS, WIDTH)
        # Forward.
        n1, centred1, inverse1 = norm("attention_norm", x)
        q, key, v = (apart(dense(name, n1)) for name in ("query", "key", "value"))
        q *= np.float32(HEAD**-0.5)
        weights = q @ key.swapaxes(-1, -2)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = together(weights @ v)
        middle = dense("out", mixed)
        middle += x
        n2, centred2, inverse2 = norm("network_norm", middle)
        h = dense("widen", n2)
        square = h * h
        t = np.tanh(h * (np.float32(A) + np.float32(A * B) * square))
        half = np.float32(0.5) * (1 + t)
        active = h * half
        y = dense("narrow", active)
        y += middle
        y -= problem.wanted[k].reshape(ROWS, WIDTH)
        loss = float(np.vdot(y, y)) / y.size
        # Backward.
        g = y
        g *= np.float32(2 / y.size)
        gh = dense_back("narrow", active, g)
        t *= t
        gh *= half + (np.float32(0.5) * h) * (1 - t) * (np.float32(A) + np.float32(3 * A * B) * square)
        g = g + norm_back("network_norm", centred2, inverse2, dense_back("widen", n2, gh))
        gm = apart(dense_back("out", mixed, g))
        gv = weights.swapaxes(-1, -2) @ gm
        gs = gm @ v.swapaxes(-1, -2)
        gs -= np.einsum("bhij,bhij->bhi", gs, weights)[..., None]
        gs *= weights
        gk = gs.swapaxes(-1, -2) @ q
        gq = gs @ key
        gq *= np.float32(HEAD**-0.5)
        gn = dense_back("query", n1, together(gq))
        gn += dense_back("key", n1, together(gk))
        gn += dense_back("value", n1, together(gv))
        norm_back("attention_norm", centred1, inverse1, gn)
        for name, gradient in gradients.items():
            gradient *= np.float32(RATE)
            p[name] -= gradient
        return loss

    return Prepared(step, lambda: list(p.values()), "gradients by hand, in place where that is easy, no kept buffers")


@TRANSFORMER.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    nn = torch.nn.functional
    p = {name: torch.tensor(value, requires_grad=True) for name, value in problem.parameters.items()}
    optimiser = torch.optim.SGD(p.values(), RATE)
    turn = turns(BATCHES)

    def dense(name: str, x: Any) -> Any:
        return torch.addmm(p[f"{name}/b"], x, p[f"{name}/w"])

    def norm(name: str, x: Any) -> Any:
        return nn.layer_norm(x, (WIDTH,), p[f"{name}/scale"], p[f"{name}/offset"], EPSILON)

    def step() -> float:
        k = turn()
        x = torch.from_numpy(problem.x[k]).view(ROWS, WIDTH)
        n = norm("attention_norm", x)
        q, key, v = (dense(name, n).view(BATCH, TOKENS, HEADS, HEAD).transpose(1, 2) for name in ("query", "key", "value"))
        mixed = nn.scaled_dot_product_attention(q, key, v).transpose(1, 2).reshape(ROWS, WIDTH)
        x = x + dense("out", mixed)
        x = x + dense("narrow", nn.gelu(dense("widen", norm("network_norm", x)), approximate="tanh"))
        loss = nn.mse_loss(x, torch.from_numpy(problem.wanted[k]).view(ROWS, WIDTH))
        return torch_step(optimiser, loss)

    return Prepared(step, lambda: [value.detach().numpy() for value in p.values()], "eager, its own kernel for attention")


def block(library: Any, gelu: Any, softmax: Any, mean: Any, p: Any, x: Any) -> Any:
    """The block over (1024, 256) for libraries with NumPy's names."""

    def dense(name: str, x: Any) -> Any:
        return x @ p[f"{name}/w"] + p[f"{name}/b"]

    def norm(name: str, x: Any) -> Any:
        x = x - mean(x)
        return x / library.sqrt(mean(x * x) + EPSILON) * p[f"{name}/scale"] + p[f"{name}/offset"]

    def apart(x: Any) -> Any:
        return library.transpose(library.reshape(x, (BATCH, TOKENS, HEADS, HEAD)), (0, 2, 1, 3))

    n = norm("attention_norm", x)
    q, key, v = (apart(dense(name, n)) for name in ("query", "key", "value"))
    weights = softmax(library.matmul(q * HEAD**-0.5, library.transpose(key, (0, 1, 3, 2))))
    mixed = library.reshape(library.transpose(library.matmul(weights, v), (0, 2, 1, 3)), (ROWS, WIDTH))
    x = x + dense("out", mixed)
    return x + dense("narrow", gelu(dense("widen", norm("network_norm", x))))


@TRANSFORMER.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    jnp = jax.numpy

    def loss_of(p: Any, x: Any, wanted: Any) -> Any:
        y = block(jnp, jax.nn.gelu, jax.nn.softmax, lambda x: jnp.mean(x, axis=-1, keepdims=True), p, x.reshape(ROWS, WIDTH))
        return jnp.mean(jnp.square(y - wanted.reshape(ROWS, WIDTH)))

    training = JaxTraining(loss_of, problem.parameters, RATE)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return training.step(problem.x[k], problem.wanted[k])

    return Prepared(step, lambda: [np.asarray(training.parameters[name]) for name in problem.parameters], "jit, parameters donated")


@TRANSFORMER.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x, wanted = (tf.placeholder("float32", (BATCH, TOKENS, WIDTH)) for _ in range(2))
    p = {name: tf.get_variable(name, initializer=value) for name, value in problem.parameters.items()}

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + tf.tanh(A * (x + B * x * x * x)))

    y = block(tf, gelu, tf.nn.softmax, lambda x: tf.reduce_mean(x, axis=-1, keepdims=True), p, tf.reshape(x, (ROWS, WIDTH)))
    loss = tf.reduce_mean(tf.square(y - tf.reshape(wanted, (ROWS, WIDTH))))
    call = tensorflow_step(tf, session, loss, [x, wanted], RATE)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return call(problem.x[k], problem.wanted[k])

    return Prepared(step, lambda: session.run(list(p.values())), "v1 graph, make_callable")


@TRANSFORMER.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    def gelu(x: fg.Tensor) -> fg.Tensor:
        return fg.nn.gelu(x, approximate=True)

    with fg.Graph() as graph:
        x, wanted = (fg.placeholder(name, (BATCH, TOKENS, WIDTH), "float32") for name in ("x", "wanted"))
        block = fg.nn.TransformerBlock(WIDTH, HEADS, activation=gelu)
        loss = fg.mean(fg.square(block(x, training=True) - wanted))
        train = fg.optim.SGD(RATE).minimize(loss)
    session = fg.Session(graph, threads=setup.threads)
    names = {
        name: f"block/attention/{name}" if name.partition("/")[0] in ("query", "key", "value", "out") else f"block/{name}"
        for name in problem.parameters
    }
    for name, value in problem.parameters.items():
        session.variables[names[name]] = value
    call = session.function([x, wanted], [loss, train])
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return float(call(problem.x[k], problem.wanted[k])[0])

    return Prepared(step, lambda: [session.variables[name] for name in names.values()], "fg.nn.TransformerBlock")
