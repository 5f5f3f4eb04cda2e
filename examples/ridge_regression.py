"""Ridge regression that picks its own penalties, by the gradient of the validation loss through ``fg.linalg.solve``.

The weights of a ridge are the solution of a linear system, so they are a differentiable function of the penalty, and so is the loss that
they have on examples which they have not seen. One penalty could be picked from a grid as well; the gradient does not mind how many there
are. The data are 442 diabetes patients: 10 measurements, their squares and products, and how far the disease went within a year.
"""

import argparse
from pathlib import Path

import numpy as np

import flowgraph as fg

Part = tuple[np.ndarray, np.ndarray]  # the columns, and what is to be predicted


def load() -> tuple[Part, Part, Part]:
    """Half of the patients to train on, a quarter to validate, a quarter to test, standardised by those of the training."""
    diabetes = fg.data.load("diabetes", "float64")
    train, rest = fg.data.split((diabetes.x, diabetes.y), 0.5)
    validation, test = fg.data.split(rest, 0.5)
    first, second = np.triu_indices(10)

    def standardised(values: np.ndarray, by: np.ndarray) -> np.ndarray:
        result: np.ndarray = (values - by.mean(axis=0)) / by.std(axis=0)
        return result

    def columns(x: np.ndarray) -> np.ndarray:
        x = standardised(x, train[0])
        return np.column_stack([x, x[:, first] * x[:, second]])

    scale = columns(train[0])
    parts = [(standardised(columns(x), scale), standardised(y, train[1])) for x, y in (train, validation, test)]
    return parts[0], parts[1], parts[2]


def main(steps: int, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Picks one penalty for all weights, then one for the measurements and one for their products; returns both pairs."""
    train, validation, test = load()
    gram, moments = train[0].T @ train[0], train[0].T @ train[1]
    kinds = np.repeat([0, 1], [10, 55])

    def weights(logs: fg.Tensor) -> fg.Tensor:
        """The least of |x w - y|^2 + sum of penalty w^2. The logarithm keeps a penalty positive, and a step of it is a factor."""
        return fg.linalg.solve(gram + fg.diag(fg.exp(logs)[kinds]), moments)

    def loss(logs: fg.Tensor, part: Part = validation) -> fg.Tensor:
        return fg.mean(fg.square(part[0] @ weights(logs) - part[1]))

    with fg.Graph() as graph:
        one = fg.variable(0.0, name="one")
        both = fg.variable(np.zeros(2), name="both")
        tied = fg.stack([one, one])
        train_one = fg.optim.Adam(0.1).minimize(loss(tied))
        train_both = fg.optim.Adam(0.1).minimize(loss(both))
        points = fg.placeholder("points", (None, 2), "float64")
        solutions, slopes = fg.vmap(weights)(points), fg.vmap(fg.grad(loss))(points)
        losses, tests = fg.vmap(loss)(points), fg.vmap(lambda logs: loss(logs, test))(points)

    with fg.Session(graph) as session:
        step = session.function([], [tied, train_one])
        paths = [np.array([step()[0] for _ in range(steps + 1)])]
        session.variables["both"] = paths[0][-1]  # one penalty is where two begin
        step = session.function([], [both, train_both])
        paths.append(np.array([step()[0] for _ in range(steps + 1)]))

        picked = np.array([paths[0][0], paths[0][-1], paths[1][-1]])
        names = ["at the start", "one penalty", "two penalties"]
        for name, logs, seen, unseen in zip(names, picked, *session.run([losses, tests], {points: picked}), strict=True):
            print(f"{name:13}: {np.exp(logs[0]):7.2f} {np.exp(logs[1]):7.2f}  validation loss {seen:.4f}  test loss {unseen:.4f}")
        found, slope = session.run([solutions, slopes], {points: picked[:2]})
        check(train, validation, picked[:2, 0], found, slope.sum(axis=1))

        grid = np.linspace(-2, 10, 60)
        mesh = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
        surface = session.run(losses, {points: mesh}).reshape(60, 60)
    draw(grid, surface, paths, out)
    return picked[1], picked[2]


def check(train: Part, validation: Part, logs: np.ndarray, weights: np.ndarray, slopes: np.ndarray) -> None:
    """One penalty has closed forms, here in NumPy, and scikit-learn has them as well."""
    from sklearn.linear_model import Ridge

    (x, y), (seen, answers) = train, validation
    for log, w, slope in zip(logs, weights, slopes, strict=True):
        penalty = np.exp(log)
        theirs = Ridge(penalty, fit_intercept=False).fit(x, y).coef_
        # (x'x + penalty) w = x'y, so that w changes by -(x'x + penalty)^-1 w for each unit of penalty.
        change = -np.linalg.solve(x.T @ x + penalty * np.eye(len(w)), w)
        by_hand = penalty * 2 * np.mean((seen @ w - answers) * (seen @ change))
        print(f"penalty {penalty:.2f}: weights differ from scikit-learn's by at most {np.abs(w - theirs).max():.0e};", end=" ")
        print(f"slope {slope:.3e}, by hand {by_hand:.3e}")
    grid = np.linspace(-2, 10, 601)
    inverses = np.linalg.inv(x.T @ x + np.exp(grid)[:, None, None] * np.eye(x.shape[1]))
    errors = np.mean((inverses @ (x.T @ y) @ seen.T - answers) ** 2, axis=1)
    print(f"best of {len(grid)} penalties in NumPy: {np.exp(grid[errors.argmin()]):.2f}, validation loss {errors.min():.4f}")


def draw(grid: np.ndarray, surface: np.ndarray, paths: list[np.ndarray], out: Path) -> None:
    """Both paths over the lines of equal validation loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axis = figure.subplots()
    axis.contour(grid, grid, surface, levels=surface.min() + np.geomspace(0.001, 0.5, 16), colors="0.75", linewidths=0.8)
    for path, name, color in zip(paths, ("one penalty", "two penalties"), ("tab:blue", "tab:red"), strict=True):
        axis.plot(*path.T, color=color, linewidth=2, label=name)
        axis.plot(*path[-1], "o", color=color)
    axis.set(xlabel="log of the measurements' penalty", ylabel="log of the products' penalty")
    axis.legend()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "penalties.png", dpi=130)
    print("drawn:", out / "penalties.png")


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of the gradient, for one penalty and again for two")
    parser.add_argument("--out", type=Path, default=Path("out/ridge_regression"))
    main(**vars(options(parser)))
