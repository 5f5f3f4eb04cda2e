"""Products: matrices multiplied by kernels of our own have the sums that float64 gives, in an order that shapes alone decide."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.jit import llvm
from flowgraph.viz.plan_picture import PlanPicture

pytestmark = pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed")
products = pytest.importorskip("flowgraph.jit.products")
if llvm.is_available():
    from flowgraph.jit.kernels import compiler
    from flowgraph.jit.llvm import Registers, Target
    from flowgraph.jit.ufuncs import code_of, with_loops

FLOAT32 = np.dtype("float32")
RNG = np.random.default_rng(0)
ORDERS = ["rows rows", "rows columns", "columns rows", "columns columns"]
# Around the edges of tiles (14 rows, 32 or 16 columns), blocks (256 summands, 512 columns), and of what is left to NumPy.
ROWS, INNER, COLUMNS = (1, 3, 4, 5, 13, 14, 15, 29, 64, 131), (1, 2, 15, 16, 17, 256, 257, 520), (1, 3, 4, 15, 16, 17, 33, 100, 513, 1060)


def matrix(rows, columns, dtype, order):
    if order == "rows":
        return RNG.standard_normal((rows, columns)).astype(dtype)
    return RNG.standard_normal((columns, rows)).astype(dtype).T


def check(multiply, a, b):
    """That a product is within the bound of its additions, and that nothing beside it is written."""
    made = np.full((a.shape[0] + 2, b.shape[1] + 3), np.nan, a.dtype)
    out = made[1:-1, 1:-2]
    multiply(a, b, out=out)
    exact = a.astype("f8") @ b.astype("f8")
    bound = np.abs(a).astype("f8") @ np.abs(b).astype("f8") * (a.shape[1] + 8) * np.finfo(a.dtype).eps
    assert np.all(np.abs(out - exact) <= bound), (a.shape, b.shape)
    out[...] = np.nan
    assert np.isnan(made).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("orders", ORDERS)
def test_products_of_all_sizes_and_orders_in_memory(dtype, orders):
    first, second = orders.split()
    for m in ROWS:
        for k in INNER:
            for n in COLUMNS:
                check(products.matmul(np.dtype(dtype)), matrix(m, k, dtype, first), matrix(k, n, dtype, second))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bytes", [16, 32])
def test_the_text_for_processors_with_narrower_vectors_gives_the_same_bits(dtype, bytes):
    own = compiler().target
    text = products.product_text(np.dtype(dtype), Target(own.header, Registers(32 if bytes == 16 else 16, bytes), own.has_fma))
    plain = code_of(np.matmul, (np.dtype(dtype),) * 3)
    assert plain is not None
    narrow = with_loops(np.matmul, "(n?,k),(k,m?)->(n?,m?)", {plain.address: compiler().address(text, "bare")})
    for m, k, n in [(5, 300, 7), (31, 17, 65), (64, 520, 100)]:
        for orders in ORDERS:
            a, b = (matrix(*sizes, dtype, order) for sizes, order in zip([(m, k), (k, n)], orders.split(), strict=True))
            check(narrow, a, b)
            assert narrow(a, b).tobytes() == products.matmul(np.dtype(dtype))(a, b).tobytes()


def test_the_bits_of_a_row_do_not_depend_on_how_many_rows_there_are():
    a, b = matrix(131, 700, "float32", "rows"), matrix(700, 90, "float32", "columns")
    whole = products.matmul(FLOAT32)(a, b)
    for first, last in [(0, 4), (3, 20), (64, 131), (10, 24)]:
        assert products.matmul(FLOAT32)(a[first:last], b).tobytes() == whole[first:last].tobytes()


def test_it_broadcasts_and_takes_vectors_and_other_dtypes_as_numpy_does():
    multiply = products.matmul(FLOAT32)
    a, b = RNG.standard_normal((3, 1, 20, 30), "f4"), RNG.standard_normal((5, 30, 40), "f4")
    np.testing.assert_allclose(multiply(a, b), a @ b, rtol=1e-4, atol=1e-4)
    assert multiply(np.arange(6).reshape(2, 3), np.arange(3)).tolist() == [5, 14]
    assert multiply([1.5, 2.0], [2.0, 1.0]) == 5.0
    wide = RNG.standard_normal((20, 60))
    assert multiply(wide.T, wide).tolist() == (wide.T @ wide).tolist()
    assert multiply(np.ones((20, 20), "c16"), np.ones((20, 60), "c16")).tolist() == np.full((20, 60), 20 + 0j).tolist()
    assert multiply(np.ones((9, 0), "f4"), np.ones((0, 60), "f4")).tolist() == np.zeros((9, 60)).tolist()
    with pytest.raises(ValueError, match="mismatch"):
        multiply(np.ones((9, 20), "f4"), np.ones((21, 60), "f4"))


def test_every_other_element_and_negative_steps_are_left_to_numpy():
    a, b = matrix(40, 80, "float32", "rows"), matrix(80, 160, "float32", "rows")
    for left, right in [(a[:, ::2], b[::2]), (a[::-1], b), (a, b[:, ::-1]), (a[:, ::-1], b[::-1])]:
        np.testing.assert_allclose(products.matmul(FLOAT32)(left, right), left @ right, rtol=1e-4, atol=1e-4)


def test_infinities_and_nans_stay_in_their_rows_and_columns():
    a, b = np.ones((33, 40), "f4"), np.ones((40, 70), "f4")
    a[5, 3], b[7, 60] = np.inf, np.nan
    with np.errstate(all="ignore"):  # as in a run
        made = products.matmul(FLOAT32)(a, b)
    expected = np.full((33, 70), 40.0, "f4")
    expected[5], expected[:, 60] = np.inf, np.nan
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_plan_multiplies_with_it_where_it_is_quicker_and_says_so(threads):
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", ("n", 300), "float32"), fg.placeholder("w", (300, 200), "float32")
        y = fg.sum(fg.nn.relu(x @ w))
        gradients = fg.gradients(y, [x, w])
    feeds = {x: RNG.standard_normal((256, 300), "f4"), w: RNG.standard_normal((300, 200), "f4")}
    with fg.Session(graph, threads=threads) as session, fg.Session(graph, jit=False) as plain:
        plan = session.plan([y, *gradients], {x: (256, 300), w: (300, 200)})
        assert "compile: matmul" in str(plan)
        made, expected = session.run([y, *gradients], feeds), plain.run([y, *gradients], feeds)
        for a, b in zip(made, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
        with fg.Session(graph, threads=1) as one:
            assert [a.tobytes() for a in one.run([y, *gradients], feeds)] == [a.tobytes() for a in made]


def wide(rows, threads=2, jit=True):
    """A product of ``rows`` rows by a wide matrix, and its gradients: what is fetched, a session for it, and the feeds."""
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", ("n", 700), "float32"), fg.placeholder("w", (700, 1111), "float32")
        product = fg.matmul(x, w, name="product")
        fetches = [product, *fg.gradients(fg.sum(fg.tanh(product) ** 2), [x, w])]
    draw = np.random.default_rng(rows)
    feeds = {x: draw.standard_normal((rows, 700), "f4") / 30, w: draw.standard_normal((700, 1111), "f4")}
    return fetches, fg.Session(graph, threads=threads, jit=jit), feeds


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("rows", [1, 33, 128])
def test_slices_of_columns_give_the_same_bits_on_any_number_of_threads(rows, jit):
    bits = set()
    for threads in (1, 2, 4):
        fetches, session, feeds = wide(rows, threads, jit)
        with session:
            for _ in range(3):  # at first by the interpreter, then as a program
                made = session.run(fetches, feeds)
                bits.add(b"".join([array.tobytes() for array in made]))
    assert len(bits) == 1
    a, b = feeds.values()
    np.testing.assert_allclose(made[0], a.astype("f8") @ b.astype("f8"), rtol=1e-4, atol=1e-4)


def test_a_product_of_few_rows_is_cut_into_columns_and_one_of_many_into_rows():
    fetches, session, feeds = wide(128)
    with session:
        plan = session.plan(fetches[0], {x: value.shape for x, value in feeds.items()})
        assert [str(unit) for unit in plan.units] == ["product[..., 0:544]", "product[..., 544:1111]"]
        assert "columns 544:1111 of s2" in str(plan)
        x, w = feeds
        many = session.plan(fetches[0], {x: (1024, 700), w: (700, 1111)})
        assert str(many.units[0]).startswith("product[0:")
    fetches, session, feeds = wide(128, jit=False)
    with session:
        function = session.function(list(feeds), fetches[0])
        function(*feeds.values())
        assert "matmul(v[0], v[1][..., 544:1111], out=v[2][..., 544:1111])" in function.source()


def test_slices_of_columns_are_drawn_and_traced():
    fetches, session, feeds = wide(128)
    with session:
        drawn = PlanPicture(session.plan(fetches, {x: value.shape for x, value in feeds.items()}))
        details = {box.key: box.detail for box in drawn.boxes.values() if box.detail.startswith("columns")}
        first = {key for key, detail in details.items() if detail in ("columns 0:544", "columns 544:1111")}
        assert len(first) == 2
        assert any({edge.start for edge in drawn.edges if edge.end == key} >= first for key in drawn.boxes)  # the loop waits for both
        with session.trace() as trace:
            session.run(fetches, feeds)
        flops = trace.summary("node", ceilings=False)["product"].flops
        assert flops == pytest.approx(2 * 128 * 700 * 1111)


def test_narrow_products_stay_with_numpy():
    with fg.Graph() as graph, fg.Session(graph) as session:
        x = fg.placeholder("x", (4096, 500), "float32")
        w = fg.placeholder("w", (500, 10), "float32")
        assert "compile" not in str(session.plan(x @ w, {x: (4096, 500), w: (500, 10)}))


def test_a_row_that_is_not_there_is_no_garbage():
    """Else it would be slow, or warn of an overflow, by chance."""
    a, b = matrix(27, 300, "float32", "rows"), matrix(300, 60, "float32", "rows")
    dirt = [np.full(size, 1e38, "f4") for size in range(20_000, 60_000, 500)]
    del dirt
    with np.errstate(all="raise"):
        for rows in range(4, 28):
            products.matmul(FLOAT32)(a[:rows], b)


def test_without_numpys_loops_a_plan_keeps_numpys_product_and_warns_once(monkeypatch):
    monkeypatch.setattr(products, "code_of", lambda *given: None)
    products.matmul.cache_clear()
    try:
        with fg.Graph() as graph, fg.Session(graph) as session:
            x = fg.placeholder("x", (256, 300), "float32")
            with pytest.warns(RuntimeWarning, match="matmul could not be compiled, and NumPy's kernel serves instead"):
                made = session.run(x @ fg.matrix_transpose(x), {x: np.ones((256, 300), "f4")})
            assert made[0, 0] == 300
    finally:
        products.matmul.cache_clear()
