"""The example programs end with the same bits on 1, 2, 4 and 8 threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
EXAMPLES = [
    ("logistic_regression.py", "--epochs", "1", "--limit", "6400"),
    *[
        pytest.param(each, marks=pytest.mark.slow)
        for each in [
            ("linear_regression.py",),
            ("lstm_rows.py", "--epochs", "1", "--limit", "6400"),
            ("mlp_mnist.py", "--epochs", "1", "--limit", "12800"),
            ("lenet_mnist.py", "--epochs", "1", "--limit", "6400", "--peak", "0.03"),
            ("polynomial_regression.py",),
            ("perceptron.py", "--out", "."),
            ("newton.py", "--descent-steps", "200", "--out", "."),
            ("ridge_regression.py", "--out", "."),
            ("autoencoder.py", "--epochs", "1", "--limit", "6400", "--out", "."),
            ("gan.py", "--steps", "100", "--out", "."),
            ("heat_equation.py", "--iterations", "3", "--out", "."),
            ("transformer_text.py", "--steps", "20"),
            ("word2vec.py", "--epochs", "1"),
        ]
    ],
]


def bits(threads, example, cwd):
    name, *arguments = example
    command = [sys.executable, str(TESTS / "example_bits.py"), str(threads), str(TESTS.parent / "examples" / name), *arguments]
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("bits ")[2]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each[0].removesuffix(".py"))
def test_an_example_ends_with_the_same_bits_on_any_number_of_threads(example, tmp_path):
    first = bits(1, example, tmp_path)
    assert len(first.strip()) == 64
    for threads in (2, 4, 8):
        assert bits(threads, example, tmp_path) == first
