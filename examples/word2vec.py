"""word2vec on Python's own manual: a vector for each word, so that words of like use lie side by side.

From each word its neighbours in the text are predicted (skip-gram: Mikolov et al. 2013, arXiv:1301.3781). A softmax over all words would
compute a score for each of them in each step. Here a step computes that of the right word and of 64 drawn by chance, frequent ones more
often; the logarithm of how often a word can be expected among them is taken off its score. So the vectors become those of the whole
softmax (Jean et al. 2015, arXiv:1412.2007), which is what the result is measured with, on text that was held out.
"""

import argparse
import re
from collections import Counter
from pydoc_data.topics import topics

import numpy as np

import flowgraph as fg

WINDOW = 4  # how far a neighbour may be away
SIZE = 64  # of the vectors
CANDIDATES = 64  # drawn for each step
LEAST = 5  # a word that is rarer is left out
THIN = 1e-3  # words more frequent than this are left out at random: "the" tells little of what stands beside it
ASKED = "list three float try false left bytes integer".split()


def manual() -> list[str]:
    """The words of Python's reference manual, which comes with Python. Topics share paragraphs; each is read once."""
    paragraphs = dict.fromkeys("\n\n".join(topics[name] for name in sorted(topics)).split("\n\n"))
    return re.findall(r"[a-z]+(?:_[a-z]+)*", "\n\n".join(paragraphs).lower())


def pairs(text: np.ndarray, keep: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each word of the text (numbers) with each of its neighbours; word w is there with probability ``keep[w]``."""
    text = text[rng.random(len(text)) < keep[text]]
    before = np.concatenate([text[:-distance] for distance in range(1, WINDOW + 1)])
    behind = np.concatenate([text[distance:] for distance in range(1, WINDOW + 1)])
    return np.concatenate([before, behind]), np.concatenate([behind, before])


def main(epochs: int, rate: float, seed: int) -> tuple[float, float, float]:
    """Trains; returns the losses on unread text, by the vectors and by frequencies alone, and where plurals stand among the neighbours."""
    words = manual()
    vocabulary = [word for word, count in Counter(words).most_common() if count >= LEAST]  # the most frequent first, as the sampler has it
    number = {word: i for i, word in enumerate(vocabulary)}
    text = np.array([number[word] for word in words if word in number], np.int32)
    unread = np.arange(len(text)) // 500 % 10 == 9
    frequency = np.bincount(text[~unread], minlength=len(vocabulary)) + 1.0
    keep = np.minimum(1, np.sqrt(THIN * frequency.sum() / frequency))
    print(f"{len(text)} words of text, {len(vocabulary)} different ones")

    with fg.Graph() as graph:
        center = fg.placeholder("center", ("batch",), "int32")
        neighbour = fg.placeholder("neighbour", ("batch",), "int32")
        embedding = fg.nn.Embedding(len(vocabulary), SIZE, weights=lambda shape: fg.init.normal(shape, std=SIZE**-0.5))
        weights = fg.variable(fg.init.zeros((len(vocabulary), SIZE)), name="weights")
        biases = fg.variable(fg.init.zeros((len(vocabulary),)), name="biases")
        h = embedding(center)
        with fg.scope("sampled"):
            candidates = fg.random.log_uniform_candidates(CANDIDATES, len(vocabulary))
            sampled = fg.mean(fg.nn.sampled_softmax_cross_entropy(weights, biases, h, neighbour, candidates))
        train = fg.optim.Adam(rate).minimize(sampled)
        full = fg.metrics.Mean(fg.nn.softmax_cross_entropy(h @ weights.T + biases, neighbour), name="full")
        with fg.scope("nearest"):
            directions = embedding.w / fg.sqrt(fg.sum(fg.square(embedding.w), axis=1, keepdims=True))
            cosines = fg.take(directions, center, axis=0) @ directions.T
            _, nearest = fg.top_k(cosines, 7)

    rng = np.random.default_rng(seed)
    with fg.Session(graph, seed=seed) as session:
        step = session.function([center, neighbour], [sampled, train])
        for epoch in range(epochs):
            with fg.data.batches(pairs(text[~unread], keep, rng), 512, seed=seed + epoch, drop_last=True) as batches:
                losses = [step(*batch)[0] for batch in batches]
            print(f"epoch {epoch + 1}: sampled loss {np.mean(losses):.3f}")

        test = pairs(text[unread], keep, rng)
        for some_centers, some_neighbours in fg.data.batches(test, 2048, shuffle=False):
            session.run(full.update, {center: some_centers, neighbour: some_neighbours})
        by_vectors = float(session.run(full.value))
        by_frequency = float(-np.log((keep * frequency / np.sum(keep * frequency))[test[1]]).mean())
        print(f"a neighbour in unread text: {by_vectors:.3f} nats by the vectors, {by_frequency:.3f} by the words' frequencies alone")

        twins = np.array([(number[word], number[word + "s"]) for word in vocabulary if word + "s" in number], np.int32)
        found = session.run(cosines, {center: twins[:, 0]})
        # How many are nearer than the plural; as the word itself is one of them, the nearest neighbour is number 1.
        place = float(np.median(np.sum(found > np.take_along_axis(found, twins[:, 1:], axis=1), axis=1)))
        print(f"the form with an s, which {len(twins)} words have, is number {place:.0f} of its {len(vocabulary) - 1} neighbours (median)")
        for word, row in zip(ASKED, session.run(nearest, {center: [number[word] for word in ASKED]})):
            print(f"  {word}: {', '.join(vocabulary[i] for i in row[1:])}")
    return by_vectors, by_frequency, place


if __name__ == "__main__":
    from command_line import options

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(options(parser)))
