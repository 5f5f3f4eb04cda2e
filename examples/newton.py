"""Newton's method on Rosenbrock's valley, beside gradient descent: 6 steps to the minimum, where the gradient alone needs thousands.

The valley is an ordinary function of a point; its gradient and its Hessian are made from it by ``fg.grad`` and ``fg.hessian``.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import flowgraph as fg

START = np.array([-1.2, 1.0])
RATE = 0.001  # of gradient descent; beyond 0.002, two by the largest curvature at the minimum, it jumps across the valley for ever


def valley(p: Any) -> Any:
    """Rosenbrock's function (1960): curved, steep across and flat along, with its minimum 0 at (1, 1)."""
    x, y = p[0], p[1]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def main(steps: int, descent_steps: int, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Walks both ways from the same start, prints and draws them; returns the two paths."""
    with fg.Graph() as graph:
        start = fg.placeholder("start", (2,), "float64")
        slope, curvature = fg.grad(valley), fg.hessian(valley)

        def newton_step(p: fg.Tensor, _: Any) -> tuple[fg.Tensor, fg.Tensor]:
            # A parabola with this slope and this curvature has its minimum where H d = -g. To solve is cheaper than to invert, and safer.
            p = p - fg.linalg.solve(curvature(p), slope(p))
            return p, p

        def descent_step(p: fg.Tensor, _: Any) -> tuple[fg.Tensor, fg.Tensor]:
            p = p - RATE * slope(p)
            return p, p

        # A path is a loop in the graph that carries the point; its second result is the point after each turn.
        _, newton = fg.scan(newton_step, start, length=steps)
        _, descent = fg.scan(descent_step, start, length=descent_steps)
        points = fg.placeholder("points", (None, 2), "float64")
        heights = fg.vmap(valley)(points)

    with fg.Session(graph) as session:
        paths = [np.vstack([START, path]) for path in session.run([newton, descent], {start: START})]
        for number, (p, height) in enumerate(zip(paths[0], session.run(heights, {points: paths[0]}))):
            print(f"Newton {number}: ({p[0]:.6f}, {p[1]:.6f})  f = {height:.2e}")
        for number in (10, 100, 1000, 10_000):
            if number <= descent_steps:
                p = paths[1][number]
                print(f"descent {number}: ({p[0]:.6f}, {p[1]:.6f})  f = {session.run(heights, {points: [p]})[0]:.2e}")
        x, y = np.linspace(-1.7, 1.5, 200), np.linspace(-3.5, 2, 200)
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        surface = session.run(heights, {points: grid.reshape(-1, 2)}).reshape(200, 200)
    draw(x, y, surface, paths, out)
    return paths[0], paths[1]


def draw(x: np.ndarray, y: np.ndarray, surface: np.ndarray, paths: list[np.ndarray], out: Path) -> None:
    """Both paths over the lines of equal height."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 5), layout="constrained")
    axis = figure.subplots()
    axis.contour(x, y, surface, levels=np.geomspace(0.1, 3000, 16), colors="0.75", linewidths=0.8)
    axis.plot(*paths[1].T, color="tab:orange", linewidth=2, label=f"gradient descent, {len(paths[1]) - 1} steps")
    axis.plot(*paths[0].T, "o-", color="tab:blue", label=f"Newton, {len(paths[0]) - 1} steps")
    axis.plot(1, 1, "*", color="tab:red", markersize=14, label="minimum")
    axis.legend()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "paths.png", dpi=130)
    print("drawn:", out / "paths.png")


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--descent-steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("out/newton"))
    main(**vars(options(parser)))
