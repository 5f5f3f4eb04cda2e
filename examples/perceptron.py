"""The perceptron of 1958: wrong examples are added to the weights, right ones are left alone. It ends, and one can say when.

The rule is no gradient, and needs no optimiser: a loop over the examples that carries the weights, ``fg.scan``, one node of the graph.
"""

import argparse
from pathlib import Path

import numpy as np

import flowgraph as fg

FEATURES = [0, 2]  # sepal length and petal length, in cm


def main(epochs: int, out: Path) -> int:
    """Tells setosa from versicolor; returns the number of corrections that it took."""
    iris = fg.data.load("iris", "float64")
    chosen = iris.y < 2
    flowers, signs = iris.x[chosen][:, FEATURES], np.where(iris.y[chosen] == 0, -1.0, 1.0)
    # A column of ones makes the bias a weight like the others.
    inputs = np.column_stack([flowers, np.ones(len(flowers))])

    with fg.Graph() as graph:
        x = fg.placeholder("x", ("examples", 3), "float64")
        y = fg.placeholder("y", ("examples",), "float64")
        w = fg.variable(np.zeros(3), name="w")

        def turn(w: fg.Tensor, example: tuple[fg.Tensor, fg.Tensor]) -> tuple[fg.Tensor, fg.Tensor]:
            x, y = example
            wrong = y * fg.vecdot(w, x) <= 0  # 0 is wrong as well: else the first weights, zeros, would stay
            return w + fg.where(wrong, y * x, 0.0), wrong

        after, wrong = fg.scan(turn, w, (x, y))
        epoch = [fg.count_nonzero(wrong), fg.assign(w, after)]
        accuracy = fg.mean(fg.astype(fg.equal(fg.sign(x @ w), y), "float64"))

    rng = np.random.default_rng(0)
    corrections = 0
    with fg.Session(graph) as session:
        step = session.function([x, y], epoch)
        for number in range(1, epochs + 1):
            order = rng.permutation(len(inputs))
            mistakes = int(step(inputs[order], signs[order])[0])
            corrections += mistakes
            print(f"epoch {number:2d}: {mistakes} corrections")
            if mistakes == 0:
                break
        weights = session.variables["w"].copy()
        print(f"accuracy {session.run(accuracy, {x: inputs, y: signs}):.1%}")

    # Novikoff 1962: whatever the order, there are at most (radius / margin)^2 corrections, for any line that separates; so for this one.
    margin = (signs * (inputs @ weights)).min() / np.linalg.norm(weights)
    bound = (np.linalg.norm(inputs, axis=1).max() / margin) ** 2
    print(f"{corrections} corrections in all; no order of the examples would have needed more than {bound:.0f}")
    out.mkdir(parents=True, exist_ok=True)
    names, features = ["setosa", "versicolor"], ("sepal length (cm)", "petal length (cm)")
    picture = fg.viz.decision_boundary(
        lambda points: points @ weights[:2] + weights[2], flowers, signs, out / "line.png", names=names, features=features
    )
    print("drawn:", picture)
    return corrections


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100, help="at most; it ends with the first one that corrects nothing")
    parser.add_argument("--out", type=Path, default=Path("out/perceptron"))
    main(**vars(options(parser)))
