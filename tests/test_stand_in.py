"""The stand-in for CuPy itself: captures across several streams follow the rules of CUDA, and a graph that lacks an edge races."""

import pytest

from tests.stand_in import Race, stand_in


@pytest.fixture
def cupy():
    return stand_in()


@pytest.fixture
def streams(cupy):
    return [cupy.cuda.Stream(non_blocking=True) for _ in range(3)]


def on(stream, function, *arrays):
    with stream:
        return function(*arrays)


def forked(cupy, first, second, leaving_out=""):
    """The graph of y = exp(x) on one stream, z = sin(y) on another, and y = cos(z) on the first, without one of its three edges."""
    x = on(first, cupy.ones, 4)
    first.begin_capture()
    y = on(first, cupy.exp, x)
    event = first.record()
    if leaving_out == "fork":
        event = cupy.cuda.Event()
        event.capture = first.capture
    second.wait_event(event)
    z = on(second, cupy.sin, y)
    if leaving_out != "join":
        first.wait_event(second.record())
    with first:
        cupy.cos(z if leaving_out != "write" else x, out=y)
    return first.end_capture(), y


def test_a_capture_across_streams_gives_one_graph_with_branches(cupy, streams):
    graph, y = forked(cupy, streams[0], streams[1])
    assert not any(stream.is_capturing() for stream in streams)
    graph.launch(streams[0])
    streams[0].synchronize()
    assert abs(y.host - cupy.cos(cupy.sin(cupy.exp(cupy.ones(4)))).host).max() < 1e-6
    assert graph.branches == 1  # (each kernel comes behind the one before)


def test_a_graph_without_an_edge_races_when_it_is_launched(cupy, streams):
    graph, _ = forked(cupy, streams[0], streams[1], leaving_out="fork")
    with pytest.raises(Race):
        graph.launch(streams[0])


def test_what_is_not_joined_ends_no_capture(cupy, streams):
    with pytest.raises(RuntimeError, match="unjoined work"):
        forked(cupy, streams[0], streams[1], leaving_out="join")
    assert not any(stream.is_capturing() for stream in streams)


def test_a_stream_without_an_event_of_the_capture_takes_no_part(cupy, streams):
    first, second, third = streams
    first.begin_capture()
    assert not second.is_capturing()
    second.wait_event(first.record())
    assert second.is_capturing() and not third.is_capturing()
    with pytest.raises(RuntimeError, match="Unmatched"):
        second.end_capture()
    first.wait_event(second.record())
    first.end_capture()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda cupy, first, second: first.wait_event(second.record()), "Isolation"),
        (lambda cupy, first, second: first.synchronize(), "Unsupported"),
        (lambda cupy, first, second: on(first, cupy.ones, 4).get(first), "Unsupported"),
        (lambda cupy, first, second: (second.begin_capture(), first.wait_event(second.record())), "Merge"),
    ],
)
def test_what_cuda_refuses_makes_the_capture_void(wrong, error, cupy, streams):
    first, second, _ = streams
    first.begin_capture()
    with pytest.raises(RuntimeError, match=error):
        wrong(cupy, first, second)
    with pytest.raises(RuntimeError, match="Invalidated"):
        first.end_capture()
    assert not first.is_capturing()


def test_an_event_of_a_capture_cannot_be_asked_for(cupy, streams):
    first = streams[0]
    first.begin_capture()
    event = first.record()
    for ask in (lambda: event.done, event.synchronize):
        with pytest.raises(RuntimeError, match="cudaErrorCapturedEvent"):
            ask()
    first.end_capture()


def test_what_is_captured_keeps_no_memory(cupy, streams):
    first = streams[0]
    pool = cupy.cuda.MemoryPool()
    x = on(first, cupy.ones, 4)
    with cupy.cuda.using_allocator(pool.malloc), first:
        first.begin_capture()
        for _ in range(4):
            y = cupy.exp(x)
        graph = first.end_capture()
    assert pool.total_bytes() == 2 * 512  # (the new one is made while the old one lives)
    graph.launch(first)
    assert pool.used_bytes() == 512 and y.host.shape == (4,)


def test_parts_of_memory_are_told_apart(cupy, streams):
    first, second, _ = streams
    whole = cupy.cuda.MemoryPool().malloc(1024)
    parts = [cupy.ndarray((4,), "float32", cupy.cuda.UnownedMemory(whole.ptr + at, 512, whole, 0)) for at in (0, 512)]
    everything = cupy.ndarray((256,), "float32", cupy.cuda.UnownedMemory(whole.ptr, 1024, whole, 0))
    on(first, lambda: parts[0].__setitem__(..., 1.0))
    on(second, lambda: parts[1].__setitem__(..., 1.0))
    with pytest.raises(Race):
        on(second, lambda: everything.__setitem__(..., 1.0))
