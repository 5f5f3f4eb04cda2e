"""A multilayer perceptron on MNIST: 784 - 625 ReLU - 10, about 98 % of the test images after 5 epochs."""

import argparse

import numpy as np

import flowgraph as fg


def main(epochs: int = 5, limit: int | None = None) -> float:
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
        train = fg.optim.SGD(0.05, momentum=0.9).minimize(loss)
        hits = fg.mean(fg.astype(fg.equal(fg.argmax(logits, axis=1), classes), "float32"))

    with fg.Session(graph) as session:
        step = session.function([images, classes], [loss, train])
        for epoch in range(epochs):
            with fg.data.batches((x, labels), 128, seed=epoch, drop_last=True) as batches:
                losses = [step(batch, batch_labels)[0] for batch, batch_labels in batches]
            accuracy = float(session.run(hits, {images: test_x, classes: test_labels}))
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, accuracy on the test images {accuracy:.2%}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=None, help="use only so many training images")
    main(**vars(parser.parse_args()))
