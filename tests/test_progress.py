"""What is shown of a loop's progress: text, rates by a clock that the test turns, lines in files, bars in terminals and notebooks."""

import io
import itertools
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

MODULE = sys.modules[fg.viz.Progress.__module__]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so: clock.now += 1."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(MODULE, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_a_file_gets_a_line_every_so_often_and_one_at_the_end(clock, capsys):
    bar = fg.viz.progress(range(8), "training", every=2)
    for step in bar:
        clock.now += 1
        bar.show(loss=np.float32(1 / (step + 1)), accuracy="90%")
    assert capsys.readouterr() == (
        "",
        "training  2/8 (25%)  loss 0.5  accuracy 90%  1 steps/s  6.0 s left\n"
        "training  4/8 (50%)  loss 0.25  accuracy 90%  1 steps/s  4.0 s left\n"
        "training  6/8 (75%)  loss 0.1667  accuracy 90%  1 steps/s  2.0 s left\n"
        "training  8/8 (100%)  loss 0.125  accuracy 90%  1 steps/s  in 8.0 s\n",
    )


def test_batches_tell_epochs_rows_a_second_and_where_they_went_on_from(clock, capsys):
    def batches():
        return fg.data.batches(np.arange(20), 5, epochs=3, prefetch=0)

    before = batches()
    for _ in range(6):
        next(before)
    after = batches()
    after.state = before.state
    bar, texts = fg.viz.progress(after, "training", unit="images"), []
    for _ in bar:
        texts.append(bar.text)
        clock.now += 2
    assert bar.count == 12
    assert texts[0] == "6/12 (50%)  epoch 2/3"
    assert texts[3] == "9/12 (75%)  epoch 3/3  2.5 images/s  6.0 s left"
    assert bar.text == "12/12 (100%)  epoch 3/3  2.5 images/s  in 0:12"
    capsys.readouterr()


def test_a_rate_is_that_of_late_and_not_of_the_first_step_which_compiles(clock, capsys):
    bar = fg.viz.progress(itertools.count(), total=1000)
    for step in bar:
        clock.now += 100 if step == 0 else 1
        if step == 100:
            assert bar.text.endswith("1 steps/s  15:00 left")
            break
    assert capsys.readouterr().err.endswith(", stopped\n")


def test_what_has_no_length_is_counted(clock, capsys):
    for _ in fg.viz.progress(iter("abc"), "letters"):
        clock.now += 1
    assert capsys.readouterr().err == "letters  3  1 steps/s  in 3.0 s\n"


def test_an_inner_loop_has_no_lines_of_its_own_unless_it_takes_long(clock, capsys):
    for epoch in fg.viz.progress(range(2), "epochs", every=100):
        for _ in fg.viz.progress(range(3), f"epoch {epoch}"):
            clock.now += 5 if epoch else 0.1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["epoch 1", "2/3 (67%)"], ["epoch 1", "3/3 (100%)"], ["epochs", "2/2 (100%)"]]


@pytest.mark.parametrize("end", ["break", "error"])
def test_a_loop_that_is_left_says_how_far_it_came(capsys, end):
    bar = fg.viz.progress(range(10), "steps")
    with pytest.raises(ZeroDivisionError) if end == "error" else pytest.MonkeyPatch.context():
        for step in bar:
            if step == 3 and end == "break":
                break
            1 / (step - 3)
    assert re.fullmatch(r"steps  3/10 \(30%\)  .* steps/s  in .* s, stopped\n", capsys.readouterr().err)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def as_terminal(monkeypatch):
    """Makes a terminal of the standard error; within a test, as pytest puts its own there before."""

    def make() -> Terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        return terminal

    return make


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[━╸╺]+ ?", "", text)


def test_a_terminal_gets_a_bar_and_inner_bars_below_it_that_go(as_terminal, clock, capsys):
    pytest.importorskip("rich")
    terminal = as_terminal()
    outer = fg.viz.progress(range(2), "epochs")
    for _ in outer:
        inner = fg.viz.progress(range(3), "steps")
        for step in inner:
            inner.show(loss=step)
            clock.now += 1
        outer.show(loss=step)
        print("printed")
    text = plain(terminal.getvalue())
    assert re.search(r"epochs +1/2 .*\nsteps +2/3 \(67%\) +loss 1", text)  # below each other
    last = [line for line in text.replace("\r", "\n").splitlines() if line.strip()][-1]
    assert re.match(r"epochs +2/2 \(100%\)  loss 2", last)
    assert capsys.readouterr().out == "printed\nprinted\n"  # and not in the terminal, as the output is a file


def test_a_bar_ends_with_its_loop_also_where_that_fails(as_terminal):
    pytest.importorskip("rich")
    terminal = as_terminal()
    for _ in range(2):  # one that was left on would refuse the next
        with pytest.raises(ZeroDivisionError):
            for _ in fg.viz.progress(range(2), "steps"):
                1 / 0
    assert terminal.getvalue().count("\x1b[?25h") == 2  # the cursor is shown again


def test_without_rich_or_in_a_dumb_terminal_there_are_lines(as_terminal, monkeypatch):
    terminal = as_terminal()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rich.progress", None)
        list(fg.viz.progress(range(2), "steps"))
    monkeypatch.setenv("TERM", "dumb")
    list(fg.viz.progress(range(2), "steps"))
    assert re.fullmatch(r"(steps  2/2 \(100%\)  .* steps/s  in 0\.0 s\n){2}", terminal.getvalue())


def test_a_notebook_gets_a_bar_of_the_browser_s(monkeypatch, clock, capsys):
    shown: list[Any] = []

    class Handle:
        def update(self, content):
            shown[-1].append(content)

    def display(content, display_id):
        shown.append([content])
        return Handle()

    ipython, part = ModuleType("IPython"), ModuleType("IPython.display")
    vars(ipython).update(get_ipython=lambda: SimpleNamespace(kernel=object()), display=part)
    vars(part).update(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", part)
    for _ in fg.viz.progress(range(4), "a < b"):
        clock.now += 1
    (contents,) = shown
    assert 'a &lt; b <progress value="4" max="4"></progress> 4/4 (100%)  1 steps/s  in 4.0 s' in contents[-1]
    assert len(contents) == 1 + 4 + 1
    assert capsys.readouterr() == ("", "")


def test_a_value_is_taken_away_by_none():
    bar = fg.viz.progress(range(1))
    bar.show(loss=2.0, note="warming up")
    bar.show(note=None)
    assert bar.text == "0/1 (0%)  loss 2"
    assert repr(bar) == "<Progress steps: 0 of 1>"


NOT_ITERABLE: Any = 3


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: fg.viz.progress(NOT_ITERABLE), "what to loop over is expected, got 3"),
        (lambda: fg.viz.progress([], NOT_ITERABLE), "title and unit are texts"),
        (lambda: fg.viz.progress([], total=-1), "total is a whole number, at least 0"),
        (lambda: fg.viz.progress([]).show(loss=fg.constant(1.0)), "loss is a node of a graph, not a number"),
    ],
)
def test_what_has_no_progress_is_told(use, said):
    with fg.Graph(), pytest.raises(fg.ArgumentError, match=said):
        use()
