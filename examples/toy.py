"""The lecture's first graph: f = (x + y) z, its gradients by backpropagation, and both on one drawing."""

import argparse
from pathlib import Path

import flowgraph as fg

with fg.Graph() as graph:
    x = fg.placeholder("x", (), "float32")
    y = fg.placeholder("y", (), "float32")
    z = fg.placeholder("z", (), "float32")
    q = fg.add(x, y, name="q")
    f = fg.multiply(q, z, name="f")
    slopes = fg.gradients(f, [x, y, z, q])


def main(out: Path) -> None:
    """Runs the graph at (-2, 5, -4), prints values and gradients, and draws them."""
    with fg.Session(graph) as session:
        values, gradients = session.run([[x, y, z, q, f], slopes], {x: -2, y: 5, z: -4})
    for name, value in zip(("x", "y", "z", "q", "f"), values, strict=True):
        print(f"{name} = {value:g}")
    for name, slope in zip(("x", "y", "z", "q"), gradients, strict=True):
        print(f"df/d{name} = {slope:g}")
    out.mkdir(parents=True, exist_ok=True)
    tensors = [x, y, z, q, f]
    on_edges = dict(zip(tensors, values, strict=True))
    backwards = dict(zip(tensors, [*gradients, 1.0], strict=True))
    print("drawn:", fg.draw(f, out / "toy.png", values=on_edges, gradients=backwards))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/toy"))
    main(parser.parse_args().out)
