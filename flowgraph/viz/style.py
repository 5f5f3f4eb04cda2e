"""What drawings share, whatever makes them: colours, the legend, and which characters a drawing can hold."""

from __future__ import annotations

import re
from typing import NamedTuple

from .heat import ink
from .picture import GRADIENT, UPDATE, Box, Picture, cut

# Fill, border: told apart in print and by colour-blind readers (after Okabe and Ito, 2008).
COLORS = {
    "forward": ("#dcebf7", "#0072b2"),
    "gradient": ("#fce3d2", "#d55e00"),
    "update": ("#d9f0e6", "#009e73"),
    "placeholder": ("#ffffff", "#333333"),
    "variable": ("#fff4c9", "#b58900"),
    "constant": ("#f2f2f2", "#999999"),
    "copy": ("#ece4f5", "#7b4fa6"),
}
LINES = {
    "data": "#5f6b7a",
    "gradient": "#d55e00",
    "reads": "#b9c0ca",
    "update": "#009e73",
    "control": "#5f6b7a",
    "added": "#1a7f37",
    "removed": "#cf222e",
}
GROUPS = 12  # that a legend names
VALUE, SLOPE = "#007a4d", "#c03000"
SCOPES = {GRADIENT: "#fef6f0", UPDATE: "#f2faf6"}
SCOPE, SCOPE_BORDER = "#f7f8fa", "#c5cbd3"
GREY = "#5f6b7a"
NOTE, MARK = "#a61b00", "#d1242f"


class Look(NamedTuple):
    """The colours of a box: inside, border, title (empty: as everywhere), detail, note."""

    fill: str
    border: str
    ink: str = ""
    detail: str = GREY
    note: str = NOTE


def look_of(box: Box, picture: Picture) -> Look:
    """By its kind or, in a heat map, by its number."""
    fill, border = COLORS[box.kind]
    if box.marked:
        border = MARK
    scale, palette = picture.overlay.scale, picture.overlay.palette
    if scale is None:
        return Look(palette.get(box.group, "#ffffff") if palette else fill, border)
    if box.heat is None:
        return Look("#ffffff", border)
    fill = scale.color(box.heat)
    letters = ink(fill)
    return Look(fill, border, letters, letters, letters if letters == "#ffffff" else NOTE)


class Entry(NamedTuple):
    """One entry of a legend: a mark in a colour, and what it stands for."""

    mark: str
    color: str
    text: str


def legend(picture: Picture) -> list[Entry]:
    """What the colours mean, where there are several."""
    kinds = [kind for kind in ("forward", "gradient", "update", "copy") if any(box.kind == kind for box in picture.boxes.values())]
    palette = picture.overlay.palette if picture.overlay.scale is None else {}
    mark = "■" if picture.overlay.scale is None and not palette else "□"
    entries = [Entry(mark, COLORS[kind][1], kind) for kind in kinds] if len(kinds) > 1 else []
    entries += [Entry("■", color, cut(name)) for name, color in list(palette.items())[:GROUPS]]
    entries += [Entry("■", GREY, f"and {len(palette) - GROUPS} more")] if len(palette) > GROUPS else []
    entries += [Entry("■", VALUE, "value")] if picture.values else []
    entries += [Entry("■", SLOPE, "gradient")] if picture.slopes else []
    entries += [Entry("→", GREY, f"without a dtype: {picture.dtype}")] if picture.dtype else []
    return entries


def clean(text: str) -> str:
    """Without what XML, and so SVG, cannot hold."""
    return re.sub("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "�", text)
