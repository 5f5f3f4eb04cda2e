"""Linear regression: y = w x, 101 points around y = 2 x, gradient descent on the mean squared error."""

import argparse

import numpy as np

import flowgraph as fg


def main(steps: int = 200) -> float:
    """Fits w and prints it on the way; returns it."""
    rng = np.random.default_rng(0)
    points = np.linspace(-1, 1, 101)
    targets = 2 * points + 0.33 * rng.standard_normal(101)
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("points",), "float64")
        y = fg.placeholder("y", ("points",), "float64")
        w = fg.variable(0.0, name="w")
        loss = fg.mean(fg.square(x * w - y))
        train = fg.optim.SGD(0.1).minimize(loss)
    with fg.Session(graph) as session:
        step = session.function([x, y], [loss, train])
        for number in range(steps):
            value, _ = step(points, targets)
            if number % (steps // 5) == 0:
                print(f"step {number:4d}  loss {value:.4f}  w {session.run(w):.4f}")
        final = float(session.run(w))
    print(f"w = {final:.5f}; least squares says {points @ targets / (points @ points):.5f}")
    return final


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(options(parser).steps)
