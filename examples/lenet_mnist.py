"""LeNet on the real MNIST: trained asynchronously on your own processors, with gradients that are nodes of the graph.

    python examples/lenet_mnist.py            train (some 12 seconds on 2 cores), then classify pictures in a fresh process
    python examples/lenet_mnist.py classify lenet.safetensors digit.npy ...

The network is the simplified LeNet of the lecture: conv 20 5x5, ReLU, max-pool 2, conv 50 5x5, ReLU, max-pool 2, dense 256, ReLU,
dense 10. Its figure there is 99.21 % after 300 epochs; one cycle of the learning rate gets about as far in 4.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import flowgraph as fg

BATCH = 128
MEAN, STD = 0.1307, 0.3081  # of the training images


def lenet(images: fg.Tensor) -> fg.Tensor:
    """Logits (batch, 10) of images (batch, 1, 28, 28)."""
    h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.Conv2d(1, 20, 5, name="conv1")(images)))
    h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.Conv2d(20, 50, 5, name="conv2")(h)))
    h = fg.nn.relu(fg.nn.Linear(800, 256, name="dense1")(fg.nn.flatten(h)))
    return fg.nn.Linear(256, 10, name="dense2")(h)


def prepare(images: np.ndarray) -> np.ndarray:
    """Pixels 0 ... 255 as standardised float32 images with a channel axis."""
    return ((images[:, None].astype(np.float32) / 255) - MEAN) / STD


def train(epochs: int, limit: int | None, out: Path, seed: int, validate: bool, peak: float) -> float:
    """Trains, writes what is worth opening to ``out``, and returns the accuracy on the test images (or the validation split)."""
    mnist = fg.data.mnist()
    x, labels = prepare(mnist.train_images), mnist.train_labels.astype(np.int32)
    test_x, test_labels = prepare(mnist.test_images), mnist.test_labels.astype(np.int32)
    if validate:  # hyper-parameters are chosen on training images that were held out, never on the test images
        test_x, test_labels, x, labels = x[50_000:], labels[50_000:], x[:50_000], labels[:50_000]
    x, labels = x[:limit], labels[:limit]
    steps = epochs * (len(x) // BATCH)

    with fg.Graph() as graph:
        images = fg.placeholder("images", ("batch", 1, 28, 28), "float32")
        classes = fg.placeholder("classes", ("batch",), "int32")
        logits = lenet(images)
        with fg.scope("loss"):
            loss = fg.mean(fg.nn.softmax_cross_entropy(logits, classes))
        with fg.scope("accuracy"):
            predicted = fg.argmax(logits, axis=1)
            hits = fg.mean(fg.astype(fg.equal(predicted, classes), "float32"))
        rate = fg.optim.one_cycle(peak, steps)
        update = fg.optim.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4).minimize(loss)

    out.mkdir(parents=True, exist_ok=True)
    print(f"LeNet: {len(graph)} nodes, {len(x)} images, {steps} steps of {BATCH}")
    with fg.Session(graph, seed=seed) as session:
        step = session.function([images, classes], [loss, hits, update])
        losses: list[float] = []
        start = time.perf_counter()
        with fg.data.batches((x, labels), BATCH, seed=seed, epochs=epochs, drop_last=True) as batches:
            bar = fg.viz.progress(batches, "training", unit="images")
            for batch, batch_labels in bar:
                value, accuracy, _ = step(batch, batch_labels)
                losses.append(float(value))
                bar.show(loss=value, accuracy=f"{accuracy:.1%}")
        seconds = time.perf_counter() - start
        print(f"trained in {seconds:.1f} s, {len(losses) * BATCH / seconds:.0f} images a second, on {session.threads} threads")

        classify = session.function([images], predicted)
        answers = np.concatenate([classify(test_x[i : i + 500]) for i in range(0, len(test_x), 500)])
        accuracy = float(np.mean(answers == test_labels))
        print(f"accuracy on {len(test_x)} {'validation' if validate else 'test'} images: {accuracy:.2%}")

        weights = [v.name for layer in ("conv1", "conv2", "dense1", "dense2") for v in graph.variables if v.name.startswith(layer)]
        fg.io.save_weights(session, out / "lenet.safetensors", only=weights)
        fg.viz.filters(session.variables["conv1/w"], out / "filters.png")
    pictures = ["lenet.safetensors", "filters.png", "training.png", "confusion.png", "graph.svg", "forward.svg"]
    fg.viz.curves({"loss": losses}, out / "training.png", log=True, ylabel="cross-entropy", title="LeNet on MNIST")
    fg.viz.confusion(test_labels, answers, out / "confusion.png")
    fg.draw(graph, out / "graph.svg", depth=1)
    fg.draw(logits, out / "forward.svg")
    digits = []
    for i in range(4):
        digits.append(out / f"digit_{i}.npy")
        np.save(digits[-1], mnist.test_images[i])
    print("written to", out, "-", ", ".join(pictures))
    print("in a fresh process, with the weights alone:")
    subprocess.run([sys.executable, __file__, "classify", str(out / "lenet.safetensors"), *map(str, digits)], check=True)
    return accuracy


def classify(weights: Path, files: list[Path]) -> list[int]:
    """The digits on the images in ``files`` (28x28 arrays of 0 ... 255 as .npy). Needs no loss, no optimiser and no training data."""
    with fg.Graph() as graph:
        images = fg.placeholder("images", ("batch", 1, 28, 28), "float32")
        probabilities = fg.nn.softmax(lenet(images))
    with fg.Session(graph) as session:
        fg.io.load_weights(session, weights)
        values = session.run(probabilities, {images: prepare(np.stack([np.load(file) for file in files]))})
    for file, row in zip(files, values, strict=True):
        print(f"  {file.name}: {row.argmax()} ({row.max():.1%})")
    return [int(row.argmax()) for row in values]


def main() -> None:
    """Reads the command line."""
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=int, default=None, help="use only so many training images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peak", type=float, default=0.1, help="largest learning rate of the cycle")
    parser.add_argument("--validate", action="store_true", help="hold out 10,000 training images instead of testing")
    parser.add_argument("--out", type=Path, default=Path("out/lenet"))
    commands = parser.add_subparsers(dest="command")
    reading = commands.add_parser("classify", help="read digits from files with trained weights")
    reading.add_argument("weights", type=Path)
    reading.add_argument("files", type=Path, nargs="+")
    asked = options(parser)
    if asked.command == "classify":
        classify(asked.weights, asked.files)
    else:
        train(asked.epochs, asked.limit, asked.out, asked.seed, asked.validate, asked.peak)


if __name__ == "__main__":
    main()
