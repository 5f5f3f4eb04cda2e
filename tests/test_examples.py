"""Each example runs as its user would run it, on less data, and reaches what it promises."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=110, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, text
    return float(found.group(1))


def test_the_toy_prints_and_draws_values_and_gradients(tmp_path):
    text = run("toy.py", "--out", "here", cwd=tmp_path)
    assert "f = -12" in text
    assert "df/dz = 3" in text
    assert (tmp_path / "here" / "toy.png").stat().st_size > 1000


def test_linear_regression_finds_the_slope(tmp_path):
    assert abs(number(r"w = ([\d.]+)", run("linear_regression.py", cwd=tmp_path)) - 2) < 0.2


def test_logistic_regression_learns_digits(tmp_path):
    text = run("logistic_regression.py", "--epochs", "1", "--limit", "12800", cwd=tmp_path)
    assert number(r"images ([\d.]+)%", text) > 86


def test_a_multilayer_perceptron_learns_digits_better(tmp_path):
    text = run("mlp_mnist.py", "--epochs", "1", "--limit", "12800", cwd=tmp_path)
    assert number(r"images ([\d.]+)%", text) > 91


def test_lenet_trains_and_a_fresh_process_classifies_with_its_weights(tmp_path):
    text = run("lenet_mnist.py", "--epochs", "1", "--limit", "19200", "--peak", "0.03", "--out", "out", cwd=tmp_path)
    assert number(r"test images: ([\d.]+)%", text) > 90
    assert re.findall(r"digit_\d\.npy: (\d)", text)[0] == "7"
    for name in ("lenet.safetensors", "filters.png", "training.png", "confusion.png", "graph.svg", "forward.svg"):
        assert (tmp_path / "out" / name).stat().st_size > 500


def test_polynomial_regression_finds_the_coefficients_of_the_exact_least_squares(tmp_path):
    text = run("polynomial_regression.py", cwd=tmp_path)
    assert number(r"least squares: ([\d.e+-]+)", text) < 1e-9
    for power, truth in enumerate((0.5, -2.0, 0.3, 1.0)):
        assert abs(number(rf"x\^{power}: descent +([\d.-]+)", text) - truth) < 0.1
    assert (tmp_path / "out" / "polynomial_regression" / "fit.png").stat().st_size > 1000


def test_the_perceptron_ends_with_all_flowers_told_apart(tmp_path):
    text = run("perceptron.py", "--out", ".", cwd=tmp_path)
    assert "accuracy 100.0%" in text
    assert 0 < number(r"(\d+) corrections in all", text) < number(r"more than (\d+)", text)


def test_newton_is_at_the_minimum_where_descent_is_still_on_its_way(tmp_path):
    text = run("newton.py", "--descent-steps", "1000", "--out", ".", cwd=tmp_path)
    assert number(r"Newton 6: .* f = ([\d.e+-]+)", text) < 1e-15
    assert number(r"descent 1000: .* f = ([\d.e+-]+)", text) > 0.1
    assert (tmp_path / "paths.png").stat().st_size > 1000


def test_ridge_regression_finds_the_penalty_that_the_closed_form_calls_best(tmp_path):
    text = run("ridge_regression.py", "--out", ".", cwd=tmp_path)
    best = number(r"penalties in NumPy: ([\d.]+)", text)
    assert abs(number(r"one penalty +: +([\d.]+)", text) / best - 1) < 0.02  # the grid's own distance
    for difference in re.findall(r"by at most ([\d.e+-]+);", text):
        assert float(difference) < 1e-11
    slope, by_hand = re.findall(r"slope ([\d.e+-]+), by hand ([\d.e+-]+)", text)[0]
    assert abs(float(slope)) > 1e-3
    assert slope == by_hand
    losses = [float(value) for value in re.findall(r"validation loss ([\d.]+)  test", text)]
    assert losses[0] > losses[1] > losses[2] + 0.03
    assert (tmp_path / "penalties.png").stat().st_size > 1000


def test_the_heat_equation_gives_back_the_first_state(tmp_path):
    text = run("heat_equation.py", "--out", ".", cwd=tmp_path)
    assert number(r"differs from NumPy's by ([\d.e+-]+)", text) < 1e-12
    assert number(r"as it is: off by ([\d.]+)%", text) > 70
    assert number(r"from the last state, 4096 values: off by ([\d.]+)%", text) < 25
    assert number(r"from 64 sensors, 12800 values: off by ([\d.]+)%", text) < 25
    assert (tmp_path / "heat.png").stat().st_size > 1000


def test_an_autoencoder_restores_hidden_pixels(tmp_path):
    text = run("autoencoder.py", "--epochs", "3", "--limit", "6400", "--units", "200", "--out", ".", cwd=tmp_path)
    assert number(r"pixels hidden: off by ([\d.]+)", text) > 25
    assert number(r"restored ([\d.]+) ", text) < 18
    assert number(r"come out off by ([\d.]+)", text) < 18
    for name in ("digits.png", "units.png"):
        assert (tmp_path / name).stat().st_size > 1000


def test_word2vec_foretells_words_of_unread_text_better_than_their_frequencies_do(tmp_path):
    text = run("word2vec.py", "--epochs", "2", "--rate", "0.004", cwd=tmp_path)
    by_vectors, by_frequency = number(r"([\d.]+) nats by the vectors", text), number(r"([\d.]+) by the words' frequencies", text)
    assert by_vectors < by_frequency - 0.1  # without the correction for the words drawn it is above
    assert number(r"is number (\d+) of its", text) < 60
    assert "float: " in text


def test_an_lstm_reads_digits_row_by_row(tmp_path):
    text = run("lstm_rows.py", "--epochs", "1", "--limit", "12800", cwd=tmp_path)
    assert number(r"images ([\d.]+)%", text) > 75


def test_a_generator_learns_to_draw_digits_of_each_kind(tmp_path):
    text = run("gan.py", "--steps", "800", "--out", ".", cwd=tmp_path)
    assert number(r"right on ([\d.]+)%", text) > 95
    assert number(r"step 800: score ([\d.]+)", text) > number(r"step 0: score ([\d.]+)", text) + 1.5
    assert len([share for share in re.findall(r"\d: ([\d.]+)%", text) if float(share) > 0.5]) >= 9
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_a_transformer_learns_more_of_text_than_which_characters_follow_each_other(tmp_path):
    text = run("transformer_text.py", "--steps", "300", "--size", "32", "--blocks", "1", "--rate", "0.01", cwd=tmp_path)
    assert number(r"held-out text: ([\d.]+)", text) < 3.4  # pairs of characters, counted, give 3.68
    written = text.split("It writes:\n")[1]
    assert len(written) == 64 + len("|") + 400 + len("\n")
