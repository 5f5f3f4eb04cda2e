"""Pictures of traces: SVG by itself, PNG and PDF by matplotlib, and one HTML page that is tried in a browser."""

import json
import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.viz.sheet import Sheet, scaled, ticks
from tests.test_page import browser_or_skip

KINDS = {"forward": "#7db8e0", "gradient": "#efa974", "update": "#7fd0b5"}


@pytest.fixture(scope="module")
def training():
    """Three steps of a small net, on two threads."""
    rng = np.random.default_rng(0)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (256, 128), "float64")
        with fg.scope("net<1>"):
            w = fg.variable(rng.standard_normal((128, 64)), name="w")
            h = fg.tanh(x @ w)
        loss = fg.mean(fg.square(h))
        train = fg.optim.SGD(0.1, momentum=0.9).minimize(loss)
    with fg.Session(graph, threads=2) as session, session.trace() as t:
        for _ in range(3):
            session.run([loss, train], {x: rng.standard_normal((256, 128))})
    return t


def texts(svg):
    return [element.text for element in xml.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def titles(svg):
    return [element.text for element in xml.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


def test_a_chart_shows_each_thread_each_large_kernel_and_what_they_are(training):
    svg = str(training.gantt())
    run = training.run()
    assert {task.worker for task in run.tasks} <= {"the caller's" if text == "MainThread" else text for text in texts(svg)} | {"MainThread"}
    assert any(text.startswith(f"run {run.number} from test_traces_pictures.py") for text in texts(svg))
    assert any("matmul" in title and "h = fg.tanh(x @ w)" in title for title in titles(svg))
    assert {"forward", "gradient", "update", "memory"} <= set(texts(svg))
    assert all(f'fill="{color}"' in svg for color in KINDS.values())


def test_bars_are_as_long_as_what_they_stand_for(training):
    run = training.run()
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" [^>]*fill="#d3dae1"', str(training.gantt()))
    assert len(bars) == len(run.tasks)
    assert sum(float(width) for _, width in bars) / (820 - 104 - 14) == pytest.approx(run.busy / run.seconds, rel=0.02)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_pictures_are_written_in_each_format(training, tmp_path, kind):
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<svg"}[kind]
    for draw in (training.gantt, training.memory().draw, training.predict(threads=[1, 2, 4]).draw, training.predict(devices=2).draw):
        assert draw(tmp_path / f"picture.{kind}").read_bytes().startswith(begins)


def test_the_memory_picture_lists_what_is_alive_at_the_peak(training):
    memory = training.memory()
    svg = str(memory.draw())
    assert "at the peak" in " ".join(texts(svg))
    largest = memory.at_peak[0]
    assert any(text.endswith(largest.name) for text in texts(svg))
    assert any(largest.reason in (title or "") for title in titles(svg))
    assert "kept for the gradient of test_traces_pictures.py:" in str(memory)
    assert memory.peak == sum(each.nbytes for each in memory.at_peak)


def test_the_prediction_picture_has_both_ceilings_and_a_chart_for_each_setting(training):
    shown = texts(str(training.predict(threads=[1, 2, 8]).draw()))
    assert {"work / threads", "threads"} <= set(shown)
    assert [text.partition(":")[0] for text in shown if re.match(r"\d+ threads?:", text)] == ["1 thread", "2 threads", "8 threads"]


def test_pictures_of_a_run_that_failed_and_of_one_without_kernels():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        y = fg.py_call(lambda a: 1 / 0, x, x)
    with fg.Session(graph, threads=1) as session, session.trace() as t:
        session.run(x, {x: [1.0, 2.0]})
        with pytest.raises(fg.ExecutionError):
            session.run(y, {x: [1.0, 2.0]})
    for run in (0, 1):
        xml.fromstring(str(t.gantt(run=run)))
        xml.fromstring(str(t.memory(run).draw()))
        assert str(t.memory(run))
    assert any("ended with ExecutionError" in text for text in texts(str(t.gantt(run=1))))
    assert str(t) and str(t.predict(threads=[1, 2])) and xml.fromstring(str(t.predict(threads=[1, 2]).draw())) is not None


def test_a_format_that_is_none_is_refused(training, tmp_path):
    for draw in (training.gantt, training.memory().draw, training.predict(threads=[1, 2]).draw):
        with pytest.raises(fg.ArgumentError, match="the format is one of svg, png, pdf"):
            draw(tmp_path / "picture.gif")
        with pytest.raises(fg.ArgumentError, match="the path of a file is expected"):
            draw(3)


def test_a_sheet_escapes_its_texts():
    sheet = Sheet(10, 10)
    sheet.text(0, 0, "a < b & c")
    sheet.rect(0, 0, 1, 1, "#000000", "x > y")
    assert texts(sheet.svg()) == ["a < b & c"] and titles(sheet.svg()) == ["x > y"]


def test_ticks_are_round_numbers():
    assert ticks(0.99, 8) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert ticks(0.0) == [0.0]
    assert [scaled(seconds)[1] for seconds in (2.0, 0.02, 2e-5)] == ["s", "ms", "us"]


# --- the page


def test_the_page_holds_all_bars_and_loads_nothing(training):
    page = str(training.gantt(format="html"))
    found = re.search(r"const DATA = (.*);\n", page)
    assert found is not None
    data = json.loads(found[1])
    assert len(data["runs"]) == 3 and sum(len(run["tasks"]) for run in data["runs"]) == sum(len(run.tasks) for run in training.runs)
    assert "http" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    assert "net<1>" not in page  # within a script, a name must not be read as a tag


@pytest.mark.browser
def test_the_page_zooms_searches_and_tells_of_a_bar(training, tmp_path):
    browser = browser_or_skip()
    try:
        browser.get(training.gantt(tmp_path / "run.html").as_uri())
        whole = browser.execute_script("return to - from")
        browser.execute_script("document.getElementById('all').click()")
        assert browser.execute_script("return to - from") > whole  # it began with the last run alone
        browser.execute_script("zoom(0.5, (from + to) / 2)")
        assert browser.execute_script("return (to - from) / (last - first)") == pytest.approx(0.5)
        found = browser.execute_script("find.value = 'matmul'; search(); next(); return [matches.length, detail.textContent]")
        kernels = [
            kernel for run in training.runs for kernel in run.plan.kernels if "matmul" in f"{kernel.node} {kernel.op} {kernel.forward}"
        ]
        assert found[0] >= len(kernels) > 0
        assert "matmul" in found[1] and "after its inputs were there" in found[1]
        browser.execute_script("canvas.focus(); canvas.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
        assert browser.execute_script("return chosen") is None
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        browser.quit()


def test_the_heat_of_a_compiled_loop_is_shared_out_among_its_nodes(training):
    heat = fg.viz.heat_of(training).by_node()
    members = [member.name for kernel in training.run().plan.kernels for member in kernel.members]
    assert {getattr(node, "name", "") for node in heat} >= set(members)  # also where llvmlite is not there, and there are none
    assert all(seconds >= 0 for seconds in heat.values())
