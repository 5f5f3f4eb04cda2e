"""An LSTM that reads MNIST's images row by row: 28 steps of 28 pixels, 128 units, about 98 % of the test images after 3 epochs."""

import argparse
import time

import numpy as np

import flowgraph as fg

BATCH, UNITS = 128, 128


def main(epochs: int = 3, limit: int | None = None) -> float:
    """Trains and returns the accuracy on the test images."""
    mnist = fg.data.mnist()
    x, test_x = (images / np.float32(255) for images in (mnist.train_images[:limit], mnist.test_images))
    labels, test_labels = mnist.train_labels[:limit].astype(np.int32), mnist.test_labels.astype(np.int32)

    with fg.Graph() as graph:
        # The rows of an image are the times of a sequence. No turn sees more than 28 pixels: what stood above is in the state.
        images = fg.placeholder("images", ("batch", 28, 28), "float32")
        classes = fg.placeholder("classes", ("batch",), "int32")
        outputs = fg.nn.LSTM(28, UNITS)(images)
        logits = fg.nn.Linear(UNITS, 10)(outputs[:, -1])
        loss = fg.mean(fg.nn.softmax_cross_entropy(logits, classes))
        train = fg.optim.Adam(3e-3).minimize(loss)
        accuracy = fg.metrics.accuracy(logits, classes)

    with fg.Session(graph) as session:
        step = session.function([images, classes], [loss, train])
        test = session.function([images, classes], accuracy)
        for epoch in range(epochs):
            losses, seconds = [], 0.0
            with fg.data.batches((x, labels), BATCH, seed=epoch, drop_last=True) as batches:
                bar = fg.viz.progress(batches, f"epoch {epoch + 1}", unit="images")
                for batch in bar:
                    start = time.perf_counter()
                    losses.append(step(*batch)[0])
                    seconds += time.perf_counter() - start
                    bar.show(loss=losses[-1])
            reached = float(np.mean([test(test_x[i : i + 500], test_labels[i : i + 500]) for i in range(0, len(test_x), 500)]))
            print(
                f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, accuracy on the test images {reached:.2%}, "
                f"{seconds / len(losses) * 1e3:.1f} ms a step"
            )
    return reached


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None, help="use only so many training images")
    main(**vars(options(parser)))
