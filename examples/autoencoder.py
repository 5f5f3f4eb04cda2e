"""A denoising autoencoder on MNIST: digits with hidden pixels go through 500 units, and come out whole.

Its weights are tied: the decoder's matrix is the encoder's, transposed. The matrix is read twice, so its gradient has two terms, and the
graph adds them up. Which pixels are hidden is drawn within the graph, anew in every step.

Vincent, Larochelle, Bengio and Manzagol, Extracting and Composing Robust Features with Denoising Autoencoders (ICML 2008).
"""

import argparse
from pathlib import Path

import numpy as np

import flowgraph as fg

BATCH = 128
SHOWN = 12  # digits in the picture


def main(epochs: int, units: int, hidden: float, peak: float, limit: int | None, out: Path) -> float:
    """Trains, draws, and returns the squared error of a restored test picture, summed over its pixels."""
    mnist = fg.data.mnist()
    x = (mnist.train_images.reshape(-1, 784) / np.float32(255))[:limit]
    test_x = mnist.test_images.reshape(-1, 784) / np.float32(255)

    with fg.Graph() as graph:
        pictures = fg.placeholder("pictures", ("batch", 784), "float32")
        share = fg.placeholder("share", (), "float32")
        with fg.scope("mask"):
            seen = pictures * fg.random.bernoulli(pictures, 1 - share)
        encoder = fg.nn.Linear(784, units, weights=fg.init.glorot_uniform, name="encoder")
        code = fg.nn.sigmoid(encoder(seen))
        with fg.scope("decoder"):
            restored = fg.nn.sigmoid(code @ encoder.w.T + fg.variable(fg.init.zeros((784,)), name="b"))
        with fg.scope("loss"):
            loss = fg.mean(fg.sum(fg.square(restored - pictures), axis=1))
            without = fg.mean(fg.sum(fg.square(seen - pictures), axis=1))  # what nobody has restored
        rate = fg.optim.one_cycle(peak, epochs * (len(x) // BATCH))
        train = fg.optim.SGD(rate, momentum=0.9).minimize(loss)

    with fg.Session(graph, seed=0) as session:
        step = session.function([pictures, share], [loss, train])
        for epoch in range(epochs):
            with fg.data.batches((x,), BATCH, seed=epoch, drop_last=True) as batches:
                losses = [step(batch, hidden)[0] for (batch,) in batches]
            print(f"epoch {epoch + 1}: error of a training picture {np.mean(losses):.2f}")
        before, error = session.run([without, loss], {pictures: test_x, share: hidden})
        print(f"test pictures with {hidden:.0%} of their pixels hidden: off by {before:.2f}, restored {error:.2f}", end=" ")
        print(f"({error * len(test_x):,.0f} for all {len(test_x):,}, {error / 784:.4f} a pixel)")
        print(f"whole test pictures come out off by {session.run(loss, {pictures: test_x, share: 0.0}):.2f}")
        shown = session.run([pictures, seen, restored], {pictures: test_x[:SHOWN], share: hidden})
        weights = session.variables["encoder/w"]
    out.mkdir(parents=True, exist_ok=True)
    sheet = fg.viz.images(np.concatenate(shown).reshape(-1, 28, 28), out / "digits.png", columns=SHOWN, limits=(0, 1))
    units_sheet = fg.viz.filters(weights.T[:60].reshape(-1, 28, 28), out / "units.png")
    print("drawn:", sheet, units_sheet)
    return float(error)


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--hidden", type=float, default=0.3, help="share of the pixels that are set to 0")
    parser.add_argument("--peak", type=float, default=0.6, help="largest learning rate of the cycle")
    parser.add_argument("--limit", type=int, default=None, help="use only so many training pictures")
    parser.add_argument("--out", type=Path, default=Path("out/autoencoder"))
    main(**vars(options(parser)))
