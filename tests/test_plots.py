"""What the plots of training show: the order of a sheet's images, their colours, and what cannot be drawn."""

import numpy as np
import pytest

import flowgraph as fg

image = pytest.importorskip("matplotlib.image")


def cells(file, rows, columns):
    """The colour (red, green, blue) in the middle of each image of a sheet."""
    height, width = (pixels := image.imread(file)).shape[:2]
    return [[pixels[int((r + 0.5) * height / rows), int((c + 0.5) * width / columns), :3] for c in range(columns)] for r in range(rows)]


def test_a_sheet_has_as_many_images_in_a_row_as_asked(tmp_path):
    brightness = np.arange(6) / 5
    file = fg.viz.images(np.ones((6, 4, 4)) * brightness[:, None, None], tmp_path / "sheet.png", columns=2, limits=(0, 1))
    np.testing.assert_allclose(np.array(cells(file, 3, 2))[..., 0].ravel(), brightness, atol=0.01)


def test_an_image_without_limits_goes_from_black_to_white(tmp_path):
    file = fg.viz.images([[[3.0, 3.0, 5.0], [3.0, 3.0, 5.0], [5.0, 5.0, 5.0]]], tmp_path / "one.png")
    middle = cells(file, 1, 1)[0][0]
    np.testing.assert_array_equal(middle, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_filters_are_red_above_0_and_blue_below_whatever_else_they_hold(tmp_path, sign):
    small, large = np.full((3, 3), 0.5), np.full((3, 3), 1.0)
    small[0, 0] = 0.6  # alone, the middle would be the least of its filter
    (low, high) = cells(fg.viz.filters(sign * np.stack([small, large])[:, None], tmp_path / "filters.png"), 1, 2)[0]
    strong, weak = (0, 2) if sign > 0 else (2, 0)
    assert low[strong] > low[weak] + 0.1
    assert high[strong] > high[weak] + 0.1


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (lambda f: fg.viz.images(np.zeros((28, 28)), f), fg.ShapeError, r"images: an array \(count, height, width\) is expected"),
        (lambda f: fg.viz.images(np.zeros((0, 2, 2)), f), fg.ArgumentError, "images: there are none"),
        (lambda f: fg.viz.images(np.zeros((2, 2, 2)), f, ["a"]), fg.ArgumentError, "images: 1 titles for 2 images"),
        (lambda f: fg.viz.images(np.zeros((2, 2, 2)), f, columns=0), fg.ArgumentError, "columns is a whole number, at least 1, got 0"),
    ],
)
def test_what_is_no_sheet_of_images_is_refused(tmp_path, draw, error, text):
    with pytest.raises(error, match=text):
        draw(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
