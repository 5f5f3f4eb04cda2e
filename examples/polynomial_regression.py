"""Polynomial regression: a cubic through noisy points. Linear regression once more, as y is linear in the weights of the powers."""

import argparse
from pathlib import Path

import numpy as np

import flowgraph as fg

TRUTH = np.array([0.5, -2.0, 0.3, 1.0])  # y = 0.5 - 2 x + 0.3 x^2 + x^3
NOISE = 0.3


def main(degree: int, steps: int, out: Path) -> np.ndarray:
    """Fits the polynomial by gradient descent, compares it with the exact least squares, and returns its coefficients."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-2, 2, 200)
    targets = np.polynomial.polynomial.polyval(points, TRUTH) + NOISE * rng.standard_normal(200)

    with fg.Graph() as graph:
        x = fg.placeholder("x", ("points",), "float64")
        y = fg.placeholder("y", ("points",), "float64")
        powers = fg.stack([x**k for k in range(1, degree + 1)], axis=1)
        # x^3 is many times larger than x, and goes up where x does: the loss would be a long narrow valley, in which descent creeps.
        # Standardised columns make it rounder. Mean and deviation are nodes as well, so whoever predicts gives the training points' own.
        mean = fg.placeholder("mean", (degree,), "float64")
        std = fg.placeholder("std", (degree,), "float64")
        w = fg.variable(np.zeros(degree), name="w")
        b = fg.variable(0.0, name="b")
        prediction = ((powers - mean) / std) @ w + b
        loss = fg.mean(fg.square(prediction - y))
        train = fg.optim.SGD(0.1, momentum=0.9).minimize(loss)

    with fg.Session(graph) as session:
        columns = session.run(powers, {x: points})
        scaling = {mean: columns.mean(axis=0), std: columns.std(axis=0)}
        step = session.function([x, y, mean, std], [loss, train])
        losses = [float(step(points, targets, *scaling.values())[0]) for _ in range(steps)]
        # Back to the plain powers of x: b + sum of w (x^k - mean) / std.
        slopes = session.variables["w"] / scaling[std]
        found = np.array([session.variables["b"] - slopes @ scaling[mean], *slopes])
        grid = np.linspace(-2.2, 2.2, 200)
        curve = session.run(prediction, {x: grid, **scaling})  # needs no y, and runs nothing of the loss

    exact = np.polynomial.polynomial.polyfit(points, targets, degree)
    for k in range(degree + 1):
        truth = f"  truth {TRUTH[k]:6.3f}" if k < len(TRUTH) else ""
        print(f"x^{k}: descent {found[k]:7.4f}  least squares {exact[k]:7.4f}{truth}")
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.4f}; the noise alone has {NOISE**2:.4f}")
    print(f"largest difference to least squares: {np.abs(found - exact).max():.1e}")
    draw(points, targets, grid, curve, out)
    return found


def draw(points: np.ndarray, targets: np.ndarray, grid: np.ndarray, curve: np.ndarray, out: Path) -> None:
    """The points, the polynomial that made them, and the one that was found."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(points, targets, ".", color="0.6", label="points")
    axis.plot(grid, np.polynomial.polynomial.polyval(grid, TRUTH), "--", color="tab:blue", label="truth")
    axis.plot(grid, curve, color="tab:red", label="found")
    axis.legend()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "fit.png", dpi=130)
    print("drawn:", out / "fit.png")


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--degree", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("out/polynomial_regression"))
    main(**vars(options(parser)))
