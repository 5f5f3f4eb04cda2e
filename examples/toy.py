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


def values() -> tuple[dict[fg.Tensor, float], dict[fg.Tensor, float]]:
    """The value of each tensor at (-2, 5, -4), and the gradient of f by it."""
    tensors = [x, y, z, q, f]
    with fg.Session(graph) as session:
        forward, backward = session.run([tensors, slopes], {x: -2, y: 5, z: -4})
    return dict(zip(tensors, forward, strict=True)), dict(zip(tensors, [*backward, 1.0], strict=True))


def draw(path: Path) -> Path:
    """The graph of f, with values in green and gradients in red."""
    forward, backward = values()
    return Path(fg.draw(f, path, values=forward, gradients=backward))


def main(out: Path) -> None:
    """Prints values and gradients, and draws them."""
    forward, backward = values()
    for tensor, value in forward.items():
        print(f"{tensor.name} = {value:g}")
    for tensor, slope in backward.items():
        print(f"df/d{tensor.name} = {slope:g}")
    out.mkdir(parents=True, exist_ok=True)
    print("drawn:", draw(out / "toy.png"))


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/toy"))
    main(options(parser).out)
