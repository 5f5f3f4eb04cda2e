"""A causal transformer that writes like Python's own manual, letter by letter.

From up to 64 characters it foretells the next one, at all 64 places at once, as each may look only at itself and at those before it
(Vaswani et al. 2017, arXiv:1706.03762). Where a character stands is told by linear biases: the farther away, the lower is its score, in
each head with another slope (Press et al. 2022, arXiv:2108.12409). How well it foretells is measured in bits per character on text that
was held out, beside a packer of the standard library that has read the same. At the end the network writes: one loop in the graph,
``fg.scan``, which carries the last 64 characters.
"""

import argparse
import lzma
import time
from pydoc_data.topics import topics

import numpy as np

import flowgraph as fg

CONTEXT = 64  # characters that the network sees
BATCH = 16  # stretches of a step
LETTERS = 400  # that it writes at the end
SLOPES = np.array([1, 1 / 2, 1 / 4, 1 / 8], np.float32)  # of the heads: how much each step back takes off a score


class Writer(fg.nn.Layer):
    """Logits (batch, CONTEXT, characters) of the character behind each place, from characters (batch, CONTEXT)."""

    def __init__(self, characters: int, size: int, blocks: int, name: str = "writer") -> None:
        super().__init__(name)
        with self.scope():
            self.embedding = fg.nn.Embedding(characters, size, weights=lambda shape: fg.init.normal(shape, std=size**-0.5))
            self.blocks = fg.nn.Sequential(*[fg.nn.TransformerBlock(size, heads=len(SLOPES)) for _ in range(blocks)])
            self.norm = fg.nn.LayerNorm(size)
            self.output = fg.nn.Linear(size, characters, weights=fg.init.glorot_uniform)

    def apply(self, x: fg.Tensor) -> fg.Tensor:
        places = np.arange(CONTEXT)
        biases = SLOPES[:, None, None] * (places - places[:, None]).astype(np.float32)  # (heads, from where, where to)
        h = self.blocks(self.embedding(x), mask=biases[None], causal=True)
        return self.output(self.norm(h))


def manual() -> str:
    """Python's reference manual, which comes with Python. Topics share paragraphs; each is here once, so that none is in both parts."""
    return "\n\n".join(dict.fromkeys("\n\n".join(topics[name] for name in sorted(topics)).split("\n\n")))


def stretches(text: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each start the characters from there on, and the one that follows each of them: both (starts, CONTEXT)."""
    places = starts[:, None] + np.arange(CONTEXT)
    return text[places], text[places + 1]


def packed_bits(known: str, new: str) -> float:
    """Bits that a character of ``new`` adds to the archive of ``known``."""
    sizes = [len(lzma.compress(text.encode(), preset=9)) for text in (known, known + new)]
    return 8 * (sizes[1] - sizes[0]) / len(new)


def main(steps: int, size: int, blocks: int, rate: float, seed: int) -> float:
    """Trains, writes, and returns the bits per character on the held-out text."""
    text = manual()
    alphabet = sorted(set(text))
    numbers = np.searchsorted(alphabet, list(text)).astype(np.int32)
    held_out = np.arange(len(text)) // 2000 % 10 == 9
    train_text, test_text = numbers[~held_out], numbers[held_out]

    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", CONTEXT), "int32")
        y = fg.placeholder("y", ("batch", CONTEXT), "int32")
        writer = Writer(len(alphabet), size, blocks)
        with fg.scope("loss"):
            losses = fg.nn.softmax_cross_entropy(writer(x), y)
            loss = fg.mean(losses)
        # In a test each character is foretold from half a context at least.
        bits = fg.metrics.Mean(losses[:, CONTEXT // 2 :] / np.log(2), name="bits")
        schedule = fg.optim.cosine(rate, steps, warmup=0.04)
        train = fg.optim.AdamW(schedule, weight_decay=0.5, clip_norm=1.0).minimize(loss)
        with fg.scope("writing"):

            def turn(window: fg.Tensor, _: None) -> tuple[fg.Tensor, fg.Tensor]:
                letter = fg.astype(fg.random.categorical(writer(window)[:, -1]), "int32")
                return fg.concat([window[:, 1:], letter[:, None]], axis=1), letter[0]

            _, letters = fg.scan(turn, x, length=LETTERS)

    known, new = ("".join(alphabet[i] for i in part) for part in (train_text, test_text))
    parameters = sum(w.size for w in writer.parameters.values())
    print(f"{len(train_text)} characters to read, {len(test_text)} held out, {len(alphabet)} different ones; {parameters} parameters")
    with fg.Session(graph, seed=seed) as session:
        step = session.function([x, y], [loss, train])
        tests = stretches(test_text, np.arange(0, len(test_text) - CONTEXT, CONTEXT // 2))
        rng = np.random.default_rng(seed)
        since, recent = time.perf_counter(), []
        bar = fg.viz.progress(range(1, steps + 1), "training")
        for number in bar:
            recent.append(step(*stretches(train_text, rng.integers(0, len(train_text) - CONTEXT, BATCH)))[0])
            bar.show(bits=recent[-1] / np.log(2))
            if number % -(-steps // 6) == 0 or number == steps:
                session.run(bits.reset)
                for some_x, some_y in fg.data.batches(tests, 4 * BATCH, shuffle=False):
                    session.run(bits.update, {x: some_x, y: some_y})
                value, seconds = float(session.run(bits.value)), time.perf_counter() - since
                print(f"step {number}: {np.mean(recent) / np.log(2):.3f} bits, held out {value:.3f}, after {seconds:.0f} s", flush=True)
                recent = []
        print(f"bits per character of the held-out text: {value:.3f}; by lzma, which knows what was read: {packed_bits(known, new):.3f}")
        print("It writes:\n" + new[:CONTEXT] + "|" + "".join(alphabet[i] for i in session.run(letters, {x: test_text[None, :CONTEXT]})))
    return value


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.004)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(options(parser)))
