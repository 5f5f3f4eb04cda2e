"""What a training records: protobuf reads the files, so do we, a stopped process loses nothing, and damage is told."""

import io
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.io.event_file import data, event, read_events, record, whole


def messages(path):
    """The events of a file as protobuf reads them, with checksums by another implementation."""
    crc32c = pytest.importorskip("tensorboardX.crc32c").crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(part):
        crc = crc32c(part)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    content, found = path.read_bytes(), []
    while content:
        length, of_length = struct.unpack("<QI", content[:12])
        body, (of_body,) = content[12 : 12 + length], struct.unpack("<I", content[12 + length : 16 + length])
        assert (of_length, of_body) == (masked(content[:8]), masked(body))
        found.append(Event.FromString(body))
        content = content[16 + length :]
    return found


def test_protobuf_reads_numbers_histograms_images_and_texts(tmp_path):
    with fg.io.Recorder(tmp_path) as recorder:
        recorder.scalars({"loss": np.float32(0.25), "accuracy": 1}, 3)
        recorder.histogram("w", [[-1.0, 3.0], [np.nan, 0.5]], 4)
        recorder.image("picture", np.zeros((2, 5), np.uint8), 5)
        recorder.text("note", "ünïcode")
    version, numbers, histogram, picture, note = messages(recorder.path)
    assert version.file_version == "brain.Event:2"
    assert numbers.step == 3
    assert {value.tag: value.simple_value for value in numbers.summary.value} == {"loss": 0.25, "accuracy": 1.0}
    (value,) = histogram.summary.value
    assert (value.histo.min, value.histo.max, value.histo.num, value.histo.sum, value.histo.sum_squares) == (-1, 3, 3, 2.5, 10.25)
    assert sum(value.histo.bucket) == 3
    assert len(value.histo.bucket) == len(value.histo.bucket_limit)
    assert value.histo.bucket_limit[-1] == 3
    (value,) = picture.summary.value
    assert (value.image.height, value.image.width, value.image.colorspace) == (2, 5, 1)
    (value,) = note.summary.value
    assert (value.metadata.plugin_data.plugin_name, value.tensor.string_val[0].decode()) == ("text", "ünïcode")


def test_protobuf_reads_the_graph_with_its_scopes_shapes_lines_and_loops(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 3))
        y = fg.nn.Linear(3, 2, name="dense")(x)
        scale = fg.mean(y)
        total, _ = fg.scan(lambda carry, each: (carry * each + scale, carry), 1.0, np.ones(4, np.float32))
        fg.gradients(total, x)
    with fg.io.Recorder(tmp_path) as recorder:
        recorder.graph(graph)
    from tensorboardX.proto.graph_pb2 import GraphDef

    nodes = {node.name: node for node in GraphDef.FromString(messages(recorder.path)[1].graph_def).node}
    assert {node.name for node in graph} <= nodes.keys()
    assert {"scan/body/multiply", "scan/body/add"} <= nodes.keys()
    made = set[str]()
    for name, node in nodes.items():  # each node stands behind those that it reads
        assert {each.removeprefix("^").partition(":")[0] for each in node.input} <= made, name
        made.add(name)
    assert "mean" in nodes["scan/body/mean"].input  # what is captured comes from where it is made
    assert "scan/body/add" in nodes["scan"].input
    (shape,) = nodes["dense/add"].attr["_output_shapes"].list.shape
    assert [dim.size for dim in shape.dim] == [-1, 2]
    assert b'fg.nn.Linear(3, 2, name="dense")' in nodes["dense/add"].attr["line"].s
    assert any(node.attr["gradient_of"].s == b"dense/matmul" for node in nodes.values())


def test_what_was_recorded_is_read_back(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    with fg.io.Recorder(tmp_path / "a") as recorder:
        for step in (1, 2, 5):
            recorder.scalar("loss", 1 / step, step)
        recorder.histogram("w", np.arange(100), 1)
        recorder.image("colours", pixels, 2)
        recorder.text("note", "a\nb", 7)
    run = fg.io.load_events(tmp_path)["a"]
    loss = run.scalars["loss"]
    assert loss.steps.tolist() == [1, 2, 5]
    np.testing.assert_allclose(loss.values, [1, 0.5, 0.2], rtol=1e-7)
    assert (np.diff(loss.times) >= 0).all()
    ((step, _, (edges, counts)),) = run.histograms["w"]
    assert (step, edges[0], edges[-1], counts.sum(), len(edges)) == (1, 0, 99, 100, len(counts) + 1)
    ((step, _, file),) = run.images["colours"]
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(file))), pixels)
    assert [(row.step, row.content) for row in run.texts["note"]] == [(7, "a\nb")]


RANGES = [[], [np.nan], [3.0] * 5, [0.0], [1e300, -1e308, 1e308], [1e-320, 2e-320], [True, False], np.ones(3, "float16")]


@pytest.mark.parametrize("values", RANGES)
def test_a_histogram_counts_what_is_finite_whatever_the_range(tmp_path, values):
    with fg.io.Recorder(tmp_path) as recorder:
        recorder.histogram("w", values, 1)
    ((_, _, (edges, counts)),) = fg.io.load_events(recorder.path)["."].histograms["w"]
    assert counts.sum() == np.isfinite(np.asarray(values, float)).sum()
    assert (np.diff(edges) >= 0).all()


def test_a_histogram_tells_quantiles_also_of_heavy_tails(tmp_path):
    values = np.random.default_rng(0).standard_cauchy(20_000)
    with fg.io.Recorder(tmp_path) as recorder:
        recorder.histogram("gradient", values, 1)
    ((_, _, (edges, counts)),) = fg.io.load_events(tmp_path)["."].histograms["gradient"]
    assert len(counts) <= 64
    shares = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    np.testing.assert_allclose(np.interp([0.1, 0.5, 0.9], shares, edges), np.quantile(values, [0.1, 0.5, 0.9]), atol=0.1)
    for left, right, count in zip(edges[:-1], edges[1:], counts):
        assert count == np.sum((values >= left) & ((values < right) | (right == edges[-1])))


def test_a_sheet_has_its_images_in_rows_and_channels_come_first_or_last(tmp_path):
    image = pytest.importorskip("PIL.Image")
    grey = np.arange(5)[:, None, None] * np.ones((5, 3, 4)) / 4
    with fg.io.Recorder(tmp_path) as recorder:
        recorder.images("grey", grey, 1, columns=2)
        recorder.image("first", np.ones((3, 2, 5)) * np.array([0.0, 0.5, 1.0])[:, None, None], 1, limits=(0, 1))
        recorder.image("last", np.ones((2, 5, 3)) * np.array([0.0, 0.5, 1.0]), 1, limits=(0, 1))
    images = fg.io.load_events(tmp_path)["."].images
    sheet = np.asarray(image.open(io.BytesIO(images["grey"][0].content)))
    assert sheet.shape == (3 * 3 + 2, 2 * 4 + 1)
    assert [sheet[1, 1], sheet[1, 6], sheet[5, 1], sheet[5, 6], sheet[9, 1], sheet[9, 6], sheet[3, 1]] == [0, 64, 128, 191, 255, 255, 255]
    first, last = (np.asarray(image.open(io.BytesIO(images[name][0].content))) for name in ("first", "last"))
    np.testing.assert_array_equal(first, last)
    assert first[0, 0].tolist() == [0, 128, 255]


def test_a_picture_that_is_a_png_file_is_recorded_as_it_is(tmp_path):
    pytest.importorskip("matplotlib")
    file = fg.viz.images(np.zeros((2, 3, 3)), tmp_path / "sheet.png")
    with fg.io.Recorder(tmp_path / "run") as recorder:
        recorder.image("sheet", file, 1)
    (event,) = [each for each in messages(recorder.path) if each.summary.value]
    found = event.summary.value[0].image
    assert found.encoded_image_string == file.read_bytes()
    with pytest.importorskip("PIL.Image").open(file) as image:
        assert (found.width, found.height) == image.size


def test_a_killed_process_loses_nothing_that_it_recorded(tmp_path):
    program = (
        "import flowgraph as fg, os, signal, sys\n"
        "recorder = fg.io.Recorder(sys.argv[1])\n"
        "for step in range(100): recorder.scalar('loss', step, step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("needs SIGKILL")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert fg.io.load_events(tmp_path)["."].scalars["loss"].steps.tolist() == list(range(100))


def test_records_of_several_threads_do_not_mix(tmp_path):
    with fg.io.Recorder(tmp_path) as recorder:
        begin = threading.Barrier(8)

        def work(name):
            begin.wait()
            for step in range(100):
                recorder.scalar(name, step, step)

        threads = [threading.Thread(target=work, args=(f"thread{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    run = fg.io.load_events(tmp_path)["."]
    assert [series.values.tolist() for series in run.scalars.values()] == [list(range(100))] * 8


def test_a_record_that_the_disk_had_no_room_for_leaves_the_next_ones_readable(tmp_path, monkeypatch):
    write = os.write

    def full(descriptor, part):
        if len(part) < 20:
            raise OSError(28, "no space left on device")
        return write(descriptor, part[:20])

    recorder = fg.io.Recorder(tmp_path)
    recorder.scalar("loss", 1, 1)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(os, "write", full)
        recorder.scalar("loss", 2, 2)
    recorder.scalar("loss", 3, 3)
    recorder.close()
    assert fg.io.load_events(tmp_path)["."].scalars["loss"].steps.tolist() == [1, 3]


def test_a_training_that_goes_on_from_a_checkpoint_records_its_steps_once(tmp_path):
    with fg.io.Recorder(tmp_path) as recorder:
        for step in range(1, 7):
            recorder.scalar("loss", step, step)
        recorder.scalar("late", 6, 6)
    with fg.io.Recorder(tmp_path, after=4) as recorder:
        recorder.scalar("loss", 50, 5)
    run = fg.io.load_events(tmp_path)["."]
    assert run.scalars["loss"].values.tolist() == [1, 2, 3, 4, 50]
    assert "late" not in run.scalars
    start = messages(recorder.path)[1]
    assert (start.session_log.status, start.step) == (1, 5)


def test_a_file_that_is_still_written_or_was_cut_gives_what_is_whole(tmp_path):
    with fg.io.Recorder(tmp_path / "run") as recorder:
        for step in range(3):
            recorder.scalar("loss", step, step)
    content, cut = recorder.path.read_bytes(), tmp_path / "cut.tfevents.0"
    found = []
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        found.append(sum(len(each.values) for each in read_events(cut)))
    assert found == sorted(found)
    assert set(found) == {0, 1, 2}


def test_a_damaged_file_says_where_and_never_gives_wrong_numbers(tmp_path):
    with fg.io.Recorder(tmp_path / "run") as recorder:
        recorder.scalar("loss", 0.5, 1)
        recorder.histogram("w", [1.0, 2.0], 1)
    content, file = recorder.path.read_bytes(), tmp_path / "x.tfevents.0"
    rng = np.random.default_rng(0)
    for at in rng.permutation(len(content))[:200]:
        damaged = bytearray(content)
        damaged[at] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        with pytest.raises(fg.FileFormatError, match=r"x\.tfevents\.0 is damaged"):
            list(read_events(file))


def test_a_record_with_right_checksums_that_holds_no_event_is_damage(tmp_path):
    file = tmp_path / "x.tfevents.0"
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(500):
        file.write_bytes(record(rng.bytes(int(rng.integers(1, 40)))))
        try:
            list(read_events(file))
        except fg.FileFormatError:
            refused += 1
    assert refused > 300


def test_numbers_that_tensorflow_writes_as_tensors_are_read(tmp_path):
    tensor = whole(1, 1) + data(2, b"") + data(4, np.float32(0.75).tobytes())
    value = data(1, "epoch_loss") + data(8, tensor) + data(9, data(1, data(1, "scalars")))
    (tmp_path / "events.out.tfevents.1.host").write_bytes(record(event(1.0, 9, values=[value])))
    series = fg.io.load_events(tmp_path)["."].scalars["epoch_loss"]
    assert (series.steps.tolist(), series.values.tolist()) == ([9], [0.75])


def test_arrays_on_a_gpu_are_fetched(tmp_path):
    class OnGpu:
        __cuda_array_interface__: dict[str, object] = {}

        def get(self):
            return np.array([0.5], np.float32)

    with fg.io.Recorder(tmp_path) as recorder:
        recorder.scalar("loss", OnGpu(), 1)
        recorder.histogram("w", OnGpu(), 1)
    run = fg.io.load_events(tmp_path)["."]
    assert run.scalars["loss"].values.tolist() == [0.5]
    bar = fg.viz.progress(range(1))
    bar.show(loss=OnGpu())
    assert bar.text == "0/1 (0%)  loss 0.5"


def test_a_recorder_that_is_dropped_closes_its_file(tmp_path):
    recorder = fg.io.Recorder(tmp_path)
    descriptor = recorder._descriptor
    assert descriptor is not None
    del recorder
    with pytest.raises(OSError, match=r"[Bb]ad file"):
        os.fstat(descriptor)


GRAPH = fg.Graph()
with GRAPH:
    tensor = fg.placeholder("loss", ())


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda r: r.scalar("loss", tensor, 1), "loss is a node of a graph, not an array"),
        (lambda r: r.scalar("loss", [1.0, 2.0], 1), r"'loss' is one number, got \[1.0, 2.0\]"),
        (lambda r: r.scalar("loss", "3", 1), "Recorder: 'loss': cannot compute with '3'"),
        (lambda r: r.scalar("", 3, 1), "a name is a text such as \"train/loss\", got ''"),
        (lambda r: r.scalar("loss", 3, -1), "a step is a whole number, at least 0, got -1"),
        (lambda r: r.scalar("loss", 3, 0.5), "a step is a whole number, at least 0, got 0.5"),
        (lambda r: r.scalars([3], 1), "numbers by name are expected"),
        (lambda r: r.histogram("w", 1j, 1), "complex numbers cannot be shown"),
        (lambda r: r.histogram("w", "abc", 1), "cannot compute with 'abc'"),
        (lambda r: r.image("x", np.zeros(3), 1), r"got \(1, 3\)"),
        (lambda r: r.image("x", __file__, 1), "is no PNG file"),
        (lambda r: r.images("x", np.zeros((0, 3, 3)), 1), "there are none"),
        (lambda r: r.images("x", np.zeros((2, 5, 3, 3, 1)), 1), r"images are \(count, height, width\)"),
        (lambda r: r.text("x", 3), "is a text, got 3"),
        (lambda r: r.graph(tensor), "a graph is expected"),
        (
            lambda r: fg.io.Recorder(3),  # type: ignore[arg-type]
            "the path of a file is expected, got 3",
        ),
        (lambda r: fg.io.Recorder(r.folder, after=-1), "after is a whole number, at least 0"),
        (lambda r: fg.io.load_events(r.folder / "nowhere"), "there is no such folder"),
        (lambda r: fg.io.load_events(Path(__file__).parent), "there is no event file in it"),
        (lambda r: fg.io.load_events(__file__), "is damaged at byte 0, or no event file"),
    ],
)
def test_what_cannot_be_recorded_is_told(tmp_path, use, said):
    with fg.io.Recorder(tmp_path) as recorder, pytest.raises(fg.FlowgraphError, match=said):
        use(recorder)


def test_a_closed_recorder_says_so(tmp_path):
    recorder = fg.io.Recorder(tmp_path)
    recorder.close()
    recorder.close()
    with pytest.raises(fg.ArgumentError, match=r"that of .* is closed"):
        recorder.scalar("loss", 1, 1)
