"""A generative adversarial network that draws digits: two nets, two optimisers, and one run for a step of both.

The generator makes images of noise, the discriminator tells them from real ones, and each is trained against the other. Whether it works is
judged by a third net, trained on the real digits alone: the inception score, at most 10, is high when that net is sure of each drawing, and
finds all ten digits among them equally often.
"""

import argparse
from pathlib import Path

import numpy as np

import flowgraph as fg
from flowgraph.nn import Dropout, Linear, Sequential

BATCH, NOISE, PIXELS = 128, 16, 64  # scikit-learn's digits have 8 x 8 pixels


def leaky(x: fg.Tensor) -> fg.Tensor:
    """A ReLU that lets gradients through below 0, too: the generator lives by those that the discriminator hands on."""
    return fg.nn.leaky_relu(x, 0.2)


def inception_score(p: fg.Tensor) -> fg.Tensor:
    """exp of the mean divergence of the rows of ``p``, probabilities, from their mean (Salimans et al., 2016, arXiv:1606.03498)."""
    p = p + 1e-30
    return fg.exp(fg.mean(fg.sum(p * fg.log(p / fg.mean(p, axis=0)), axis=1)))


def main(steps: int, seed: int, out: Path) -> float:
    """Trains the three nets, prints how they do and draws samples; returns the score of 2,000 drawings."""
    digits = fg.data.load("digits")
    pixels = (digits.x / 8 - 1).astype(np.float32)  # -1 ... 1, as tanh makes them
    train_set, (test_x, test_labels) = fg.data.split((pixels, digits.y), 0.2)

    with fg.Graph() as graph:
        with fg.scope("generator"):
            generator = Sequential(Linear(NOISE, 256), leaky, Linear(256, 256), leaky, Linear(256, PIXELS), fg.tanh)
        with fg.scope("discriminator"):
            discriminator = Sequential(Linear(PIXELS, 256), leaky, Dropout(0.3), Linear(256, 256), leaky, Dropout(0.3), Linear(256, 1))
        with fg.scope("judge"):
            judge = Sequential(Linear(PIXELS, 256), fg.nn.relu, Linear(256, 10))

        real = fg.placeholder("real", (BATCH, PIXELS), "float32")
        drawn = generator(fg.random.normal((BATCH, NOISE)))
        of_real, of_drawn = fg.split(discriminator(fg.concat([real, drawn]), training=True), 2)
        # softplus(-logit) is -log(sigmoid(logit)), the price of calling an image real; softplus(logit) is that of calling it drawn. A real
        # one counts as real by 0.9 only, so that the discriminator never gets too sure to be of use.
        telling_apart = fg.mean(0.9 * fg.nn.softplus(-of_real) + 0.1 * fg.nn.softplus(of_real) + fg.nn.softplus(of_drawn))
        passing = fg.mean(fg.nn.softplus(-of_drawn))
        told_apart = (fg.mean(of_real > 0) + fg.mean(of_drawn < 0)) / 2
        # The gradients of both losses go through both nets. What is updated is what the optimiser is given.
        train = [
            fg.optim.Adam(5e-4, beta1=0.5).minimize(telling_apart, discriminator.variables),
            fg.optim.Adam(5e-4, beta1=0.5).minimize(passing, generator.variables),
        ]

        images = fg.placeholder("images", ("count", PIXELS), "float32")
        labels = fg.placeholder("labels", ("count",), "int64")
        logits = judge(images)
        train_judge = fg.optim.Adam(1e-3).minimize(fg.mean(fg.nn.softmax_cross_entropy(logits, labels)))
        right, score = fg.metrics.accuracy(logits, labels), inception_score(fg.nn.softmax(logits))

        noise = fg.placeholder("noise", ("count", NOISE), "float32")
        samples = generator(noise)

    with fg.Session(graph, seed=seed) as session:
        step = session.function([images, labels], train_judge)
        with fg.data.batches(train_set, BATCH, seed=seed, epochs=100, drop_last=True) as batches:
            for batch in batches:
                step(*batch)
        of_test = session.run([right, score], {images: test_x, labels: test_labels})
        print(f"the judge is right on {of_test[0]:.1%} of the test images; their score is {of_test[1]:.2f}")

        step = session.function([real], [telling_apart, passing, told_apart, *train])
        some = np.random.default_rng(seed).standard_normal((2000, NOISE), np.float32)
        epochs, history, shown = steps // (len(train_set[0]) // BATCH) + 1, [], {}
        with fg.data.batches(train_set[:1], BATCH, seed=seed, epochs=epochs, drop_last=True) as batches:
            for number, (batch,) in zip(fg.viz.progress(range(steps), "training"), batches):
                if number % max(steps // 8, 1) == 0:
                    drawings = session.run(samples, {noise: some})
                    value = session.run(score, {images: drawings})
                    print(f"step {number}: score {value:.2f}")
                    shown[f"step {number}\nscore {value:.1f}"] = drawings[:16]
                history.append([float(v) for v in step(batch)[:3]])
        drawings = session.run(samples, {noise: some})
        value, found = session.run([score, fg.argmax(logits, axis=1)], {images: drawings})
        shown[f"step {steps}\nscore {value:.1f}"] = drawings[:16]
        for_discriminator, for_generator, apart = np.mean(history[-500:], axis=0)
        print(f"losses {for_discriminator:.3f} and {for_generator:.3f}; {apart:.1%} told apart, while learning")
        shares = np.bincount(found, minlength=10) / len(found)
        print("digits among the drawings:", ", ".join(f"{digit}: {share:.1%}" for digit, share in enumerate(shares)))
        print(f"step {steps}: score {value:.2f}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return float(value)
    out.mkdir(parents=True, exist_ok=True)
    # A column for each piece of noise, a row for each moment.
    sheet = fg.viz.images(np.concatenate(list(shown.values())).reshape(-1, 8, 8), out / "samples.png", rows=list(shown))
    losses = np.transpose(history)[:2]
    curves = fg.viz.curves(dict(zip(["discriminator", "generator"], losses)), out / "losses.png", ylabel="loss")
    print("drawn:", sheet, curves)
    return float(value)


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/gan"))
    main(**vars(options(parser)))
