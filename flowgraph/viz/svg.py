"""SVG of a picture by our own layout, without any program."""

from __future__ import annotations

import math

from .heat import Scale
from .layers import FONT, PAD, SMALL, Curve, Layout, Part, halfway, layout
from .picture import Box, Edge, Picture, cut, scope_name
from .style import COLORS, GREY, LINES, SCOPE, SCOPE_BORDER, SCOPES, SLOPE, VALUE, clean, legend, look_of

EXPLAINED = 5000  # up to so many edges carry tooltips: with more, a browser is slow to open the file


def source(picture: Picture, placed: Layout | None = None) -> str:
    """``picture`` as an SVG, by this layout."""
    placed = layout(picture) if placed is None else placed
    left = placed.left
    scale = picture.overlay.scale
    words = " \u2003".join(f'<tspan fill="{entry.color}">{entry.mark}</tspan> {_text(entry.text)}' for entry in legend(picture))
    notes = [words, *(_text(note) for note in picture.notes)]
    notes = [note for note in ["" if scale is None else _scale(scale), *notes] if note]
    widest = max([placed.width, *(260.0 for _ in notes)])
    width, height = math.ceil(widest + 2 * PAD), math.ceil(placed.height + 2 * PAD + 14 * len(notes))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="{left - PAD:g} {-PAD:g} {width} {height}" '
        f'font-family="Arial, Helvetica, sans-serif" font-size="{FONT:g}" text-anchor="middle">',
        _STYLE,
        f'<rect x="{left - PAD:g}" y="{-PAD:g}" width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [_scope(part) for part in placed.scopes]
    explained = len(picture.edges) <= EXPLAINED
    lines += [_path(edge, way, explained) for edge, way in zip(picture.edges, placed.curves)]
    lines += [_shape(box, placed.boxes[box.key], picture) for box in picture.boxes.values() if box.kind != "end"]
    for i, note in enumerate(notes):
        y = placed.height + 18 + 14 * i
        lines.append(
            f'<g transform="translate({left:.0f} {y:.0f})">{note}</g>'
            if note.startswith("<rect")
            else f'<text class="d" x="{left:.0f}" y="{y:.0f}" text-anchor="start">{note}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


_STYLE = "\n".join(
    [
        "<style>",
        *(f".{kind} {{ fill: {fill}; stroke: {border}; }}" for kind, (fill, border) in COLORS.items()),
        *(f".e-{kind} {{ fill: none; stroke: {color}; marker-end: url(#m-{kind}); }}" for kind, color in LINES.items()),
        ".e-control, .e-removed { stroke-dasharray: 4 3; } .e-reads { stroke-dasharray: 1 3; }",
        f".d {{ font-size: {SMALL:g}px; fill: {GREY}; }}",
        "</style>",
        "<defs>",
        *(
            f'<marker id="m-{kind}" viewBox="0 0 8 6" refX="8" refY="3" markerWidth="7" markerHeight="5" orient="auto">'
            f'<path d="M0,0 L8,3 L0,6 z" fill="{color}"/></marker>'
            for kind, color in LINES.items()
        ),
        "</defs>",
    ]
)


def _scale(scale: Scale) -> str:
    """The colours of a heat map, with numbers at their ends."""
    bars = "".join(f'<rect x="{6 * i}" y="-9" width="6.5" height="9" fill="{scale.at((i + 0.5) / 24)}"/>' for i in range(24))
    low, high = scale.ends()
    return f'{bars}<text class="d" x="152" y="0" text-anchor="start">{_text(f"{scale.heat.title}: {low} to {high}")}</text>'


def _scope(part: Part) -> str:
    fill = SCOPES.get(part.key, SCOPE)
    return (
        f'<rect x="{part.x:.1f}" y="{part.y:.1f}" width="{part.width:.1f}" height="{part.height:.1f}" rx="8" fill="{fill}" '
        f'stroke="{SCOPE_BORDER}"/><text class="d" x="{part.middle:.1f}" y="{part.y + part.height - 6:.1f}">'
        f"{_text(scope_name(part.key))}</text>"
    )


def _shape(box: Box, part: Part, picture: Picture) -> str:
    x, y, width, height = part.x, part.y, part.width, part.height
    if box.kind == "tag":
        tip = f"<title>{_text(box.tooltip)}</title>"
        return f'<text class="d" font-style="italic" x="{part.middle:.1f}" y="{y + 10:.1f}">{tip}{_text(box.title)}</text>'
    if box.kind == "placeholder":
        shape = f'<ellipse class="{box.kind}" cx="{part.middle:.1f}" cy="{y + height / 2:.1f}" rx="{width / 2:.1f}" ry="{height / 2:.1f}"/>'
    elif box.kind == "variable":
        shape = (
            f'<path class="variable" d="M{x:.1f},{y + 4:.1f} v{height - 8:.1f} a{width / 2:.1f},4 0 0 0 {width:.1f},0 v{8 - height:.1f} '
            f'a{width / 2:.1f},4 0 0 0 {-width:.1f},0 a{width / 2:.1f},4 0 0 0 {width:.1f},0"/>'
        )
    else:
        twice = f'<rect class="{box.kind}" x="{x + 3:.1f}" y="{y - 3:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        radius = ' rx="6"' if box.members == 1 else ""
        shape = (twice if box.members > 1 else "") + (
            f'<rect class="{box.kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{radius}/>'
        )
    look = look_of(box, picture)
    rows = [(box.title, "", look.ink), (box.detail, "d", look.detail if look.ink else ""), (cut(box.note), "d", look.note)]
    rows = [row for row in rows if row[0]]
    line = y + height / 2 + (2 if box.kind == "variable" else 0) + 4 - 6 * (len(rows) - 1)
    text = ""
    for i, (words, css, ink) in enumerate(rows):
        style = (f' class="{css}"' if css else "") + (f' style="fill:{ink}"' if ink else "")
        text += f'<text{style} x="{part.middle:.1f}" y="{line + 13 * i:.1f}">{_text(words)}</text>'
    own = f"fill:{look.fill};" if look.ink or picture.overlay.scale or picture.overlay.palette else ""
    own += f"stroke:{look.border};stroke-width:3" if box.marked else ""
    if own:
        shape = shape.replace(f' class="{box.kind}"', f' class="{box.kind}" style="{own}"')
    return f"<g><title>{_text(box.tooltip)}</title>{shape}{text}</g>"


def _path(edge: Edge, way: Curve, explained: bool) -> str:
    x1, y1, x2, y2, x3, y3, x4, y4 = way
    title = f"<title>{_text(edge.tooltip)}</title>" if explained else ""
    path = f'<path class="e-{edge.kind}" d="M{x1:.1f},{y1:.1f} C{x2:.1f},{y2:.1f} {x3:.1f},{y3:.1f} {x4:.1f},{y4:.1f}">{title}</path>'
    x, y = halfway(way)
    if edge.label:  # of gradients to the right of the edge, of others to the left
        x, anchor = (x + 4, "start") if edge.kind == "gradient" else (x - 4, "end")
        path += f'<text class="d" x="{x:.1f}" y="{y + 3:.1f}" text-anchor="{anchor}">{_text(edge.label)}</text>'
    for text, color, drop in ((edge.value, VALUE, -2), (edge.slope, SLOPE, 11)):
        if text:
            path += f'<text x="{x + 4:.1f}" y="{y + drop:.1f}" text-anchor="start" fill="{color}">{_text(text)}</text>'
    return path


def _text(text: str) -> str:
    import html

    return html.escape(clean(text), quote=False)
