"""Products of the rows of a matrix with a vector as parts of the loop that reads them, with the gradient's sum of the rows."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flowgraph as fg
from flowgraph import nn
from flowgraph.compile import fuse

SHAPES = [(2, 3), (31, 16), (33, 54), (100, 130), (517, 200), (70_001, 5)]


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Makes every stretch a loop, however little it saves."""
    monkeypatch.setattr(fuse, "WORTH_SECONDS", -1.0)


class Regression:
    """Logistic regression of ``n`` rows of ``k`` numbers: the loss and its gradients; ``column``: whether the weights are a column."""

    def __init__(self, n: int, k: int, dtype: str, column: bool = False) -> None:
        more = (1,) if column else ()
        random = np.random.default_rng(n + k)
        with fg.Graph() as self.graph:
            self.x, self.labels = fg.placeholder("x", (n, k), dtype), fg.placeholder("labels", (n, *more), dtype)
            self.w, self.b = fg.placeholder("w", (k, *more), dtype), fg.placeholder("b", more, dtype)
            self.product = self.x @ self.w
            self.loss = fg.mean(nn.sigmoid_cross_entropy(self.product + self.b, self.labels))
            self.fetches = [self.loss, *fg.gradients(self.loss, [self.w, self.b])]
        values = random.standard_normal((n, k)), random.random((n, *more)) < 0.5, random.standard_normal((k, *more)) / k**0.5, np.ones(more)
        inputs = self.x, self.labels, self.w, self.b
        self.feeds = {tensor: value.astype(dtype) for tensor, value in zip(inputs, values, strict=True)}

    def run(self, fetches=None, **options):
        with fg.Session(self.graph, **options) as session:
            return session.run(self.fetches if fetches is None else fetches, self.feeds)

    def ops(self, fetches=None):
        """The names of the ops that the plan runs."""
        with fg.Session(self.graph, jit=True) as session:
            plan = session.plan(self.fetches if fetches is None else fetches, self.feeds)
        return {unit.node.op.name for unit in plan.units}


@pytest.mark.parametrize("column", [False, True], ids=["vector", "column"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_a_linear_model_and_its_gradient_are_one_loop_with_the_values_of_numpys_kernels(n, k, dtype, column):
    model = Regression(n, k, dtype, column)
    assert model.ops().isdisjoint({"matmul", "contract", "permute_dims"})
    tolerance = 2e-6 if dtype == "float32" else 2e-14
    for ours, plain in zip(model.run(jit=True), model.run(jit=False), strict=True):
        assert ours.shape == plain.shape and ours.dtype == plain.dtype
        np.testing.assert_allclose(ours, plain, rtol=tolerance, atol=tolerance * np.abs(plain).max())


def test_the_bits_do_not_depend_on_threads():
    model = Regression(70_001, 54, "float32")
    first, *others = [[value.tobytes() for value in model.run(jit=True, threads=threads)] for threads in (1, 2, 3)]
    assert others == [first, first]


def test_a_row_has_no_part_in_the_products_of_its_neighbours():
    model = Regression(100, 5, "float32")
    model.feeds[model.x][[1, 40, 99]] = [[np.inf], [np.nan], [np.inf]]
    with model.graph:
        scores = nn.sigmoid(model.product)
    assert "matmul" not in model.ops([scores])
    (ours,), (plain,) = model.run([scores], jit=True), model.run([scores], jit=False)
    assert np.isfinite(np.delete(ours, [1, 40, 99])).all()
    np.testing.assert_allclose(ours, plain, rtol=2e-6)


def test_a_product_that_is_fetched_is_a_product_by_itself():
    model = Regression(100, 5, "float32")
    fetches = [*model.fetches, model.product]
    assert "matmul" in model.ops(fetches)
    np.testing.assert_allclose(model.run(fetches, jit=True)[-1], model.run(fetches, jit=False)[-1], rtol=0, atol=0)


def test_rows_that_are_columns_in_memory_have_the_same_products():
    model = Regression(517, 20, "float32")
    in_order = model.run(jit=True)
    model.feeds[model.x] = np.asfortranarray(model.feeds[model.x])
    for ours, same in zip(model.run(jit=True), in_order, strict=True):
        np.testing.assert_array_equal(ours, same)


def test_what_reads_the_gradient_is_behind_the_loop_that_gives_it():
    model = Regression(517, 20, "float32")
    with model.graph:
        (gradient,) = fg.gradients(model.loss, [model.w])
        penalty = fg.sum(gradient * gradient)
        (second,) = fg.gradients(penalty, [model.w])
    for ours, plain in zip(model.run([penalty, second], jit=True), model.run([penalty, second], jit=False), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5 * np.abs(plain).max())
