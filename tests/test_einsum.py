"""einsum and its relatives beside NumPy's, and what is said of subscripts that make no sense."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.vmap import vmap
from flowgraph.graph import OPS

FORMS = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ji,jk->ki", [(3, 2), (3, 4)]),
    ("ba,cb", [(2, 3), (4, 2)]),  # implicit: alphabetical
    ("i,i", [(3,), (3,)]),
    ("i,j", [(3,), (2,)]),
    ("i,i->i", [(3,), (3,)]),
    ("ii", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("iji->j", [(3, 2, 3)]),
    ("iii->i", [(3, 3, 3)]),
    ("iijj->ij", [(2, 2, 3, 3)]),
    ("ij->ji", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("ij->j", [(2, 3)]),
    ("ba", [(2, 3)]),
    ("ii,ij->j", [(3, 3), (3, 2)]),
    ("ij,kj,kl->il", [(2, 3), (4, 3), (4, 5)]),
    ("ij,jk,kl,lm->im", [(2, 3), (3, 4), (4, 5), (5, 2)]),
    ("bij,bjk,bkl->bil", [(2, 3, 4), (2, 4, 3), (2, 3, 2)]),
    ("ij,ij,ij->i", [(2, 3), (2, 3), (2, 3)]),
    ("i,j,k->kji", [(2,), (3,), (4,)]),
    ("i,ij,j->", [(2,), (2, 3), (3,)]),
    ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)]),
    ("...ij,...jk", [(2, 5, 2, 3), (5, 3, 4)]),  # leading axes of different number broadcast
    ("...ij,jk->...ik", [(5, 2, 3), (3, 4)]),
    ("i...,i...->...", [(3, 2), (3, 2)]),
    ("...,...", [(2, 3), (3,)]),
    ("...i->i...", [(2, 3, 4)]),
    ("i...i->...", [(3, 2, 3)]),
    ("...ii->...i", [(2, 3, 3)]),
    ("...a,...b->...ab", [(4, 1, 2), (3, 2)]),  # size 1 under an ellipsis broadcasts
    (" i j , j k -> i k ", [(2, 3), (3, 4)]),
    (",i->i", [(), (3,)]),
    ("i->", [(0,)]),
    ("ij,jk->ik", [(2, 0), (0, 4)]),
    ("ABC,BCa->aA", [(2, 3, 4), (3, 4, 5)]),
    ("ij,k->ik", [(2, 3), (4,)]),  # a letter that one operand alone has is summed first
]


def arrays_of(shapes, dtype="float64"):
    rng = np.random.default_rng(5)
    if np.dtype(dtype).kind in "ib":
        return [rng.integers(0, 2 if dtype == "bool" else 9, shape).astype(dtype) for shape in shapes]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    return [(a + 1j * rng.standard_normal(a.shape) if np.dtype(dtype).kind == "c" else a).astype(dtype) for a in arrays]


def value(build, arrays, unknown=False):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", (None,) * a.ndim if unknown else a.shape, a.dtype) for i, a in enumerate(arrays)]
        y = build(*inputs)
    with fg.Session(graph, threads=1) as session:
        result = session.run(y, dict(zip(inputs, arrays, strict=True)))
    assert len(y.shape) == np.ndim(result)
    assert all(have in (want, None) for have, want in zip(y.shape, np.shape(result), strict=True))
    return result


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize(("subscripts", "shapes"), FORMS, ids=lambda v: v if isinstance(v, str) else "")
def test_einsum_gives_what_numpy_gives(subscripts, shapes, optimize):
    arrays = arrays_of(shapes)
    have = value(lambda *xs: fg.einsum(subscripts, *xs, optimize=optimize), arrays)
    np.testing.assert_allclose(have, np.einsum(subscripts, *arrays), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("subscripts", "shapes"), [f for f in FORMS if "4, 1, 2" not in str(f[1])], ids=lambda v: v if isinstance(v, str) else ""
)
def test_einsum_holds_where_sizes_are_known_only_in_the_run(subscripts, shapes):
    arrays = arrays_of(shapes)
    have = value(lambda *xs: fg.einsum(subscripts, *xs), arrays, unknown=True)
    np.testing.assert_allclose(have, np.einsum(subscripts, *arrays), rtol=1e-12, atol=1e-13)


def drawn(rng):
    """Random subscripts and shapes that fit them: repeated letters, ellipses and sizes of 1 among them."""
    letters = "abcdeZ"[: rng.integers(1, 7)]
    sizes = {c: int(rng.integers(1, 4)) for c in letters}
    extra = [int(n) for n in rng.integers(1, 4, rng.integers(0, 3))]
    with_dots = rng.random() < 0.3
    terms, shapes = [], []
    for _ in range(rng.integers(1, 5)):
        term = "".join(rng.choice(list(letters), rng.integers(0, 4)))
        shape = [1 if rng.random() < 0.1 and term.count(c) == 1 else sizes[c] for c in term]
        if with_dots and rng.random() < 0.8:
            at, own = int(rng.integers(0, len(term) + 1)), extra[len(extra) - int(rng.integers(0, len(extra) + 1)) :]
            shape[at:at] = [1 if rng.random() < 0.2 else n for n in own]
            term = f"{term[:at]}...{term[at:]}"
        terms.append(term)
        shapes.append(tuple(shape))
    subscripts = ",".join(terms)
    if rng.random() < 0.7:
        used = sorted(set("".join(terms)) - {"."})
        result = "".join(rng.permutation(used)[: rng.integers(0, len(used) + 1)])
        at = int(rng.integers(0, len(result) + 1))
        subscripts += "->" + (f"{result[:at]}...{result[at:]}" if "..." in subscripts else result)
    return subscripts, shapes


@pytest.mark.parametrize("seed", range(8))
def test_random_subscripts_give_what_numpy_gives(seed):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        subscripts, shapes = drawn(rng)
        arrays = arrays_of(shapes)
        have, want = value(lambda *xs, s=subscripts: fg.einsum(s, *xs), arrays), np.einsum(subscripts, *arrays)
        np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-11, err_msg=f"{subscripts} of {shapes}, seed {seed}")
        assert have.shape == want.shape


@pytest.mark.parametrize("dtype", ["float32", "complex64", "complex128", "int32", "int64", "bool"])
@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "ij,jk->k", "ij,kj->", "ij,jk->ijk"])
def test_einsum_keeps_the_dtype_as_numpy_does(subscripts, dtype):
    arrays = arrays_of([(3, 3), (3, 3)], dtype)
    have, want = value(lambda *xs: fg.einsum(subscripts, *xs), arrays), np.einsum(subscripts, *arrays)
    assert have.dtype == want.dtype
    np.testing.assert_allclose(have, want, rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("subscripts", "shapes"), [f for f in FORMS if "0" not in str(f[1])], ids=lambda v: v if isinstance(v, str) else ""
)
def test_gradients_of_einsum_agree_with_differences(subscripts, shapes, order):
    fg.check_gradient(lambda *xs: fg.einsum(subscripts, *xs), *arrays_of(shapes), order=order, tolerance=1e-5)


def test_gradients_of_a_complex_einsum_agree_with_differences():
    fg.check_gradient(
        lambda *xs: fg.einsum("ij,jk,ik->k", *xs), *arrays_of([(2, 3), (3, 2), (2, 2)], "complex128"), order=2, tolerance=1e-5
    )


def test_einsum_takes_numbers_for_the_axes():
    x, y = arrays_of([(2, 3), (3, 4)])
    np.testing.assert_allclose(value(lambda a, b: fg.einsum(a, [0, 1], b, [1, 2], [2, 0]), [x, y]), (x @ y).T)
    np.testing.assert_allclose(value(lambda a, b: fg.einsum(a, [..., 1], b, [1, 2]), [x, y]), x @ y)


def test_numpy_functions_of_tensors_build_contractions():
    x, y = arrays_of([(2, 3), (3, 4)])
    np.testing.assert_allclose(value(lambda a, b: np.einsum("ij,jk", a, b), [x, y]), x @ y)
    np.testing.assert_allclose(value(lambda a, b: np.dot(a, b), [x, y]), x @ y)
    np.testing.assert_allclose(value(lambda a, b: np.tensordot(a, b, 1), [x, y]), x @ y)
    np.testing.assert_allclose(value(lambda a, b: np.inner(a, b.T), [x, y]), x @ y)


@pytest.mark.parametrize(
    ("subscripts", "ops"),
    [
        ("bij,bjk->bik", ["matmul"]),
        ("ij,kj->ik", ["permute_dims", "matmul"]),
        ("ij,ij->ij", ["multiply"]),
        ("ijk,jkl->il", ["contract"]),
        ("ij,jk->i", ["sum", "contract"]),
    ],
)
def test_a_pair_of_operands_is_one_product(subscripts, ops):
    shapes = {"b": 7, "i": 2, "j": 3, "k": 4, "l": 5}
    with fg.Graph() as graph:
        x, y = (fg.placeholder(term, [shapes[c] for c in term]) for term in subscripts.split("->")[0].split(","))
        fg.einsum(subscripts, x, y)
    assert [node.op.name for node in graph.nodes[2:]] == ops


def test_the_cheaper_order_of_three_factors_is_chosen_where_sizes_are_known():
    with fg.Graph() as graph:
        a, b, c = (fg.placeholder(name, shape) for name, shape in [("a", (50, 50)), ("b", (50, 50)), ("c", (50, 1))])
        fg.einsum("ij,jk,kl->il", a, b, c)
        fg.einsum("ij,jk,kl->il", a, b, c, optimize=False)
    chosen, left_to_right = graph.nodes[3:5], graph.nodes[5:7]
    assert {node.op.name for node in graph.nodes[3:]} == {"matmul"}
    assert [node.outputs[0].size for node in chosen] == [50, 50]
    assert [node.outputs[0].size for node in left_to_right] == [2500, 50]


@pytest.mark.parametrize(
    ("subscripts", "shapes", "text"),
    [
        ("ij,jk->ik", [(2, 3)], "names 2 operands, but 1 are given"),
        ("ij->ik", [(2, 3)], "has k in the result, but in no operand"),
        ("ij->ii", [(2, 3)], "names a letter twice in the result"),
        ("ijk->i", [(2, 3)], r"names 3 axes of x0, which has 2: \(2, 3\)"),
        ("i->i", [(2, 3)], r"names 1 axes of x0, which has 2"),
        ("i1->i", [(2, 3)], "may hold letters, commas, one -> and"),
        ("i...->i", [(2, 3)], "leaves out the ... of its operands in the result"),
    ],
)
def test_subscripts_that_make_no_sense_are_named(subscripts, shapes, text):
    with fg.Graph():
        xs = [fg.placeholder(f"x{i}", shape) for i, shape in enumerate(shapes)]
        with pytest.raises(fg.ArgumentError, match=text):
            fg.einsum(subscripts, *xs)


def test_a_letter_of_two_sizes_is_named_with_the_shapes():
    with fg.Graph():
        x, y = fg.placeholder("x", (2, 3)), fg.placeholder("y", (4, 5))
        with pytest.raises(fg.ShapeError, match=r"einsum: j in 'ij,jk' stands for 3 and for 4\n.*\n  operands\[0\]   \(2, 3\)"):
            fg.einsum("ij,jk", x, y)


@pytest.mark.parametrize("axes", [0, 1, 2, (1, 1), ([0, 1], [1, 0]), (-1, 0)])
def test_tensordot_gives_what_numpy_gives(axes):
    x, y = arrays_of([(3, 3, 3), (3, 3, 2)])
    for unknown in (False, True):
        np.testing.assert_allclose(value(lambda a, b: fg.tensordot(a, b, axes), [x, y], unknown), np.tensordot(x, y, axes))


def test_tensordot_names_axes_that_do_not_pair():
    with fg.Graph():
        x, y = fg.placeholder("x", (2, 3)), fg.placeholder("y", (3, 4))
        with pytest.raises(fg.ArgumentError, match=r"axes \[0, 1\] of x do not pair with axes \[0\] of y"):
            fg.tensordot(x, y, ([0, 1], [0]))
        with pytest.raises(fg.ShapeError, match="axis 1 of x has size 3, and axis 1 of y, its partner, 4"):
            fg.tensordot(x, y, (1, 1))
        with pytest.raises(fg.ArgumentError, match="3 axes of"):
            fg.tensordot(x, y, 3)


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int32"])
@pytest.mark.parametrize(("shapes", "axis"), [([(4,), (4,)], -1), ([(2, 4), (4,)], -1), ([(4, 2), (4, 1)], 0), ([(3, 1, 4), (2, 4)], -1)])
def test_vecdot_gives_what_numpy_gives(shapes, axis, dtype):
    x, y = arrays_of(shapes, dtype)
    have = value(lambda a, b: fg.vecdot(a, b, axis), [x, y])
    want = np.vecdot(np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1))
    assert have.dtype == want.dtype
    np.testing.assert_allclose(have, want, rtol=1e-5)


@pytest.mark.parametrize("shapes", [[(3,), (2,)], [(2, 2), (3,)], [(), (2,)]])
def test_outer_and_kron_give_what_numpy_gives(shapes):
    x, y = arrays_of(shapes)
    np.testing.assert_allclose(value(fg.outer, [x, y]), np.outer(x, y))
    np.testing.assert_allclose(value(fg.kron, [x, y]), np.kron(x, y))
    fg.check_gradient(fg.kron, x, y)


def test_kron_with_two_open_sizes_says_that_they_must_be_known():
    with fg.Graph():
        x, y = fg.placeholder("x", (None, None)), fg.placeholder("y", (2, 2))
        with pytest.raises(fg.ShapeError, match=r"kron: the sizes of \(\?, \?\) and \(2, 2\) must be known, but for one axis"):
            fg.kron(x, y)


def test_einsum_batches_over_examples():
    x, w = arrays_of([(5, 2, 3), (3, 4)])
    have = value(lambda a, b: vmap(lambda one: fg.einsum("ij,jk->ki", one, b))(a), [x, w])
    np.testing.assert_allclose(have, np.einsum("bij,jk->bki", x, w))


@pytest.mark.parametrize("x", [(2, 3), (3,), (5, 2, 3)])
@pytest.mark.parametrize("y", [(3, 4), (3,), (5, 3, 4)])
def test_a_batched_matrix_product_is_exact_for_vectors_and_stacks(x, y):
    x, y = arrays_of([(7, *x), (7, *y)])
    have = value(lambda a, b: vmap(fg.matmul)(a, b), [x, y])
    np.testing.assert_allclose(have, np.stack([p @ q for p, q in zip(x, y, strict=True)]))


def test_contractions_are_the_same_bits_with_any_number_of_threads():
    x, y = arrays_of([(64, 30, 20), (30, 20, 200)], "float32")
    with fg.Graph() as graph:
        a, b = fg.placeholder("a", x.shape), fg.placeholder("b", y.shape)
        z = fg.einsum("ijk,jkl->il", a, b) + fg.einsum("ijk,jkl->li", a, b).T
    assert sum(node.op.name == "contract" for node in graph.nodes) == 2
    results = []
    for threads in (1, 4):
        with fg.Session(graph, threads=threads) as session:
            results.append(session.run(z, {a: x, b: y}).tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize(("x", "w"), [((5, 2, 3), (3, 4)), ((2, 5, 2, 3), (3, 4)), ((5, 2, 3), (3,)), ((0, 2, 3), (3, 4))])
def test_the_gradient_by_a_matrix_that_a_stack_is_multiplied_by_is_one_product(x, w):
    x, w = arrays_of([x, w])
    with fg.Graph() as graph:
        rows, matrix = fg.placeholder("x", x.shape, "float64"), fg.placeholder("w", w.shape, "float64")
        product = rows @ matrix
        weights = np.cos(x @ w)
        (slope,) = fg.gradients(fg.sum(product * weights), matrix)
    assert slope.node.op.name == "contract"
    with fg.Session(graph, threads=1) as session:
        have, made = session.run([slope, product], {rows: x, matrix: w})
    wide = weights[..., None] if w.ndim == 1 else weights
    want = x.reshape(-1, 3).T @ wide.reshape(-1, wide.shape[-1])
    np.testing.assert_allclose(have, want.reshape(w.shape), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(made, x @ w, rtol=1e-12)


def test_a_product_of_a_stack_goes_where_it_is_told_however_that_lies():
    x, w = arrays_of([(5, 4, 3), (3, 2)])
    multiply = OPS["matmul"].bind(np, {})
    out = np.empty((5, 2, 4)).transpose(0, 2, 1)
    assert multiply(x, w, out=out) is out
    np.testing.assert_allclose(out, x @ w)
    np.testing.assert_allclose(multiply(x.transpose(1, 0, 2), w), x.transpose(1, 0, 2) @ w)
