"""Values on the edges of drawings: from a session or by tensor, as numbers, tables and little pictures."""

import re

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.viz import dot, values
from flowgraph.viz.graph_picture import GraphPicture


def lines(grid):
    return [" ".join(row) for row in grid.texts]


def test_a_session_computes_the_values_of_all_edges_in_one_run():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,))
        y = fg.multiply(fg.exp(x), 2.0, name="y")
    with fg.Session(graph, threads=1) as session:
        text = str(fg.draw(y, format="dot", values=session, feeds={x: [0.0, 1.0]}))
        assert session.random_state[1] == 1
    assert re.findall(r">([\d.]+)</FONT></TD>", text) == ["0", "1", "1", "2.72", "2", "5.44"]


def test_a_feed_that_is_missing_is_said_as_by_a_run():
    with fg.Graph() as graph:
        y = fg.exp(fg.placeholder("x", ()))
    with fg.Session(graph, threads=1) as session, pytest.raises(fg.FeedError, match="x"):
        fg.draw(y, values=session)


def test_feeds_without_a_session_and_values_of_a_large_graph_are_refused():
    with fg.Graph() as graph:
        x = y = fg.placeholder("x", ())
        for _ in range(200):
            y = fg.exp(y)
    with pytest.raises(fg.ArgumentError, match="feeds are for a session"):
        fg.draw(y, feeds={x: 1.0})
    with fg.Session(graph, threads=1) as session, pytest.raises(fg.ArgumentError, match="at most 120 nodes; this one has 201"):
        fg.draw(y, values=session, feeds={x: 1.0})


@pytest.mark.parametrize("value", [3.0, np.zeros(()), np.ones((1, 1)), np.zeros((0, 3)), np.array(["a", "b"]), np.array([1j, 2j])])
def test_numbers_and_what_is_no_array_of_numbers_have_no_cells(value):
    assert values.grids(value) == []


def test_a_small_array_is_a_table_of_its_numbers():
    (grid,) = values.grids(np.array([[1.0, -0.5], [1e-9, 12345.678]]))
    assert lines(grid) == ["1 -0.5", "1e-09 1.23e+04"]
    (grid,) = values.grids(np.arange(3).reshape(3, 1, 1))
    assert lines(grid) == ["0 1 2"]
    (grid,) = values.grids(np.array([True, False]))
    assert lines(grid) == ["True False"]


def test_a_long_vector_is_a_strip_and_a_matrix_a_picture():
    (strip,) = values.grids(np.arange(1000.0))
    assert (len(strip.colors), len(strip.colors[0]), strip.texts) == (1, 2 * values.SIDE, None)
    (picture,) = values.grids(np.zeros((100, 10)))
    assert (len(picture.colors), len(picture.colors[0])) == (values.SIDE, 10)


def test_of_a_batch_the_first_is_shown_with_its_channels_and_of_filters_several():
    batch = np.zeros((2, 3, 8, 8))
    batch[0, 1] = 1.0
    channels = values.grids(batch)
    assert [grid.colors[0][0] for grid in channels] == ["#ffffff", values.DARK, "#ffffff"]
    assert len(values.grids(np.ones((20, 1, 5, 5)))) == values.IMAGES
    assert len(values.grids(np.ones((1, 1, 28, 28)))) == 1


def test_a_cell_stands_for_the_mean_of_what_it_covers():
    image = np.zeros((56, 56))
    image[:2, :2] = [[1.0, 0.0], [0.0, 1.0]]
    image[2:4, :2] = 0.5
    (grid,) = values.grids(image)
    assert grid.colors[0][0] == grid.colors[1][0] == values.DARK
    assert grid.colors[0][1] == "#ffffff"


def test_negative_numbers_are_blue_positive_ones_red_and_nan_neither():
    (grid,) = values.grids(np.array([-1.0, 0.0, 1.0, np.nan]))
    blue, white, red, unsure = grid.colors[0]
    assert blue == "#2166ac" and red == "#b2182b" and white == "#fbfbfb" and unsure == values.UNSURE


def test_an_array_that_several_read_is_shown_once():
    with fg.Graph():
        x = fg.placeholder("x", (8, 8))
        y = fg.sin(x) + fg.cos(x)
    drawn = GraphPicture(y.graph.nodes, values={x: np.ones((8, 8))})
    assert [len(edge.grids) for edge in drawn.edges] == [1, 0, 0, 0]


@pytest.mark.skipif(dot.program() is None, reason="no dot program is installed")
def test_graphviz_draws_tables_and_pictures():
    with fg.Graph() as graph:
        image = fg.placeholder("image", (1, 1, 12, 12))
        y = fg.nn.softmax(fg.nn.Linear(144, 3, name="dense")(fg.reshape(image, (1, 144))))
    pixels = np.linspace(0, 1, 144, dtype=np.float32).reshape(1, 1, 12, 12)
    with fg.Session(graph, threads=1) as session:
        svg = str(fg.draw(y, values=session, feeds={image: pixels}))
    assert "drawn without" not in svg and "drawn simpler" not in svg
    assert svg.count(f'fill="{values.DARK}"') >= 1
    assert svg.count("<polygon") > 144
