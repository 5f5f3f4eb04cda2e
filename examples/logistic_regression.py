"""Logistic regression on MNIST: one matrix, about 92 % of the test images."""

import argparse

import numpy as np

import flowgraph as fg


def main(epochs: int = 5, limit: int | None = None) -> float:
    """Trains and returns the accuracy on the test images."""
    mnist = fg.data.mnist()
    x = (mnist.train_images.reshape(-1, 784) / np.float32(255))[:limit]
    labels = mnist.train_labels.astype(np.int32)[:limit]
    with fg.Graph() as graph:
        images = fg.placeholder("images", ("batch", 784), "float32")
        classes = fg.placeholder("classes", ("batch",), "int32")
        logits = fg.nn.Linear(784, 10, name="output")(images)
        loss = fg.mean(fg.nn.softmax_cross_entropy(logits, classes))
        train = fg.optim.SGD(0.1, momentum=0.9).minimize(loss)
        hits = fg.mean(fg.astype(fg.equal(fg.argmax(logits, axis=1), classes), "float32"))
    accuracy = 0.0
    with fg.Session(graph) as session:
        step = session.function([images, classes], [loss, train])
        for epoch in range(epochs):
            losses = []
            with fg.data.batches((x, labels), 128, seed=epoch, drop_last=True) as batches:
                for batch, batch_labels in batches:
                    losses.append(step(batch, batch_labels)[0])
            test = mnist.test_images.reshape(-1, 784) / np.float32(255)
            accuracy = float(session.run(hits, {images: test, classes: mnist.test_labels.astype(np.int32)}))
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, accuracy on the test images {accuracy:.2%}")
    return accuracy


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=None, help="use only so many training images")
    main(**vars(options(parser)))
