"""The heat equation run backwards: where it was warm at first, found from the state at the end, or from a few thermometers.

A plate whose rim is kept at 0 cools: explicit finite differences, where each time step is a turn of one ``fg.scan``. The gradient of what
was observed by the first temperatures is another scan, from the end to the start, and L-BFGS follows it to the state that explains the
observations. Heat flow forgets: fine detail fades first and drowns in the noise. What helps is to know that nothing was ever below 0.
"""

import argparse
from pathlib import Path

import numpy as np

import flowgraph as fg

RATE = 0.2  # diffusivity * time step / cell^2; beyond 1/4 the differences would grow instead of fading
SPOTS = ((0.3, 0.3, 0.06, 1.0), (0.35, 0.7, 0.08, 0.7), (0.7, 0.5, 0.05, 1.0))  # y, x, radius, temperature
SENSORS = 8  # along each side


def first_state(size: int) -> np.ndarray:
    """Three warm spots, their middles at most 1."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    state = np.zeros((size, size))
    for at_y, at_x, radius, height in SPOTS:
        state += height * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * radius**2))
    return state


def main(size: int, steps: int, noise: float, iterations: int, out: Path) -> dict[str, float]:
    """Recovers the first state from both kinds of observation; returns how far each is off, relative to the truth."""
    apart = max(1, size // SENSORS)

    def step(u: fg.Tensor, _: None) -> tuple[fg.Tensor, fg.Tensor]:
        p = fg.pad(u, 1)
        u = u + RATE * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)
        return u, u[apart // 2 :: apart, apart // 2 :: apart]

    with fg.Graph() as graph:
        # A square is never below 0. It starts off 0, where all of its slopes would be 0 as well.
        root = fg.variable(np.full((size, size), 0.1), name="root")
        first = fg.square(root, name="first")
        last, readings = fg.scan(step, first, length=steps)
        seen_last = fg.placeholder("seen_last", last.shape, "float64")
        seen_readings = fg.placeholder("seen_readings", readings.shape, "float64")
        by_last = fg.mean(fg.square(last - seen_last))
        by_readings = fg.mean(fg.square(readings - seen_readings))
        (slope,) = fg.gradients(by_last, first)

    truth, rng = first_state(size), np.random.default_rng(0)
    with fg.Session(graph) as session:
        end, record = session.run([last, readings], {first: truth})
        end, record = (values + noise * rng.standard_normal(values.shape) for values in (end, record))
        cooled, gradient = session.run([last, slope], {first: truth, seen_last: end})
        check(cooled, end, gradient, steps)
        guesses = {"the last state as it is": end}
        for name, loss, feeds in (
            (f"from the last state, {end.size} values", by_last, {seen_last: end}),
            (f"from {record[0].size} sensors, {record.size} values", by_readings, {seen_readings: record}),
        ):
            session.variables["root"] = np.full((size, size), 0.1)
            report = fg.optim.LBFGS(iterations).minimize(session, loss, feeds=feeds)
            print(f"{name}: loss {report.losses[0]:.2e} -> {report.losses[-1]:.2e}, noise^2 {noise**2:.2e};", end=" ")
            print(f"{len(report.losses) - 1} steps, {report.evaluations} gradients")
            guesses[name] = session.run(first)
    errors = {name: float(np.linalg.norm(guess - truth) / np.linalg.norm(truth)) for name, guess in guesses.items()}
    for name, error in errors.items():
        print(f"{name}: off by {error:.1%}")
    draw({"the first state": truth, **guesses}, apart, out)
    return errors


def check(last: np.ndarray, seen: np.ndarray, slope: np.ndarray, steps: int) -> None:
    """A step is a symmetric matrix, so the gradient by the first state is the heat equation once more, from what was off at the end."""
    u = 2 * (last - seen) / last.size
    for _ in range(steps):
        p = np.pad(u, 1)
        u = u + RATE * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)
    print(f"gradient by the first state: differs from NumPy's by {np.abs(slope - u).max() / np.abs(u).max():.0e}")


def draw(states: dict[str, np.ndarray], apart: int, out: Path) -> None:
    """The truth, what became of it, and what was made out of that; crosses are sensors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(states))
    for axis, (name, state) in zip(axes, states.items(), strict=True):
        shown = axis.imshow(state, vmin=0, vmax=1, cmap="inferno")
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    at = np.mgrid[apart // 2 : len(state) : apart, apart // 2 : len(state) : apart].reshape(2, -1)
    axes[-1].plot(*at, "x", color="0.6", markersize=3)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "heat.png", dpi=130)
    print("drawn:", out / "heat.png")


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="of the plate, in cells")
    parser.add_argument("--steps", type=int, default=200, help="of time")
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation of what is added to each observed value")
    parser.add_argument("--iterations", type=int, default=60, help="of L-BFGS, at most")
    parser.add_argument("--out", type=Path, default=Path("out/heat_equation"))
    main(**vars(options(parser)))
