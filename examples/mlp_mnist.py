"""A multilayer perceptron on MNIST: 784 - 625 ReLU - 10, about 98 % of the test images after 5 epochs.

What it measures is recorded: ``tensorboard --logdir out/mlp`` shows it while it runs, and curves.png at the end; run it again with another
rate, and both show the two runs beside each other.
"""

import argparse
from pathlib import Path

import numpy as np

import flowgraph as fg


def main(epochs: int, limit: int | None, rate: float, out: Path) -> float:
    """Trains and returns the accuracy on the test images."""
    mnist = fg.data.mnist()
    x = (mnist.train_images.reshape(-1, 784) / np.float32(255))[:limit]
    labels = mnist.train_labels.astype(np.int32)[:limit]
    test_x = mnist.test_images.reshape(-1, 784) / np.float32(255)
    test_labels = mnist.test_labels.astype(np.int32)

    with fg.Graph() as graph:
        images = fg.placeholder("images", ("batch", 784), "float32")
        classes = fg.placeholder("classes", ("batch",), "int32")
        h = fg.nn.relu(fg.nn.Linear(784, 625, name="hidden")(images))
        logits = fg.nn.Linear(625, 10, name="output")(h)
        loss = fg.mean(fg.nn.softmax_cross_entropy(logits, classes))
        train = fg.optim.SGD(rate, momentum=0.9).minimize(loss)
        hits = fg.mean(fg.astype(fg.equal(fg.argmax(logits, axis=1), classes), "float32"))

    with fg.Session(graph) as session, fg.io.Recorder(out / f"rate={rate}", after=0) as recorder:
        recorder.graph(graph)
        step = session.function([images, classes], [loss, train])
        with fg.data.batches((x, labels), 128, epochs=epochs, drop_last=True) as batches:
            bar, losses = fg.viz.progress(batches, "training", unit="images"), []
            for number, batch in enumerate(bar, 1):
                value, _ = step(*batch)
                losses.append(value)
                bar.show(loss=value)
                recorder.scalar("loss", value, number)
                if number % batches.per_epoch == 0:
                    accuracy = float(session.run(hits, {images: test_x, classes: test_labels}))
                    recorder.scalar("accuracy on the test images", accuracy, number)
                    recorder.histogram("hidden/w", session.variables["hidden/w"], number)
                    mean = np.mean(losses[-batches.per_epoch :])
                    print(f"epoch {number // batches.per_epoch}: loss {mean:.4f}, accuracy on the test images {accuracy:.2%}")
    print("drawn:", fg.viz.curves(out, out / "curves.png"))
    return accuracy


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=None, help="use only so many training images")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--out", type=Path, default=Path("out/mlp"))
    main(**vars(options(parser)))
