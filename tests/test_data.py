"""Input: splits and batches of arrays, image transforms, and MNIST's files."""

import gc
import gzip
import hashlib
import lzma
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from flowgraph.data import Batches, batches, mnist, random_shift, split, standardize
from flowgraph.errors import ArgumentError, DataError, FileFormatError, ShapeError

mnist_module = sys.modules["flowgraph.data.mnist"]  # as an attribute of flowgraph.data, the name is the function

LONG = 30  # seconds; what a test waits for at most before it fails


def of_ten(**options):
    return batches(np.arange(10), 4, **options)


def as_lists(made):
    return [batch.tolist() for batch in made]


def data_threads():
    return [thread for thread in threading.enumerate() if thread.name == "flowgraph batches"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    assert data_threads() == []
    yield
    gc.collect()
    for thread in data_threads():
        thread.join(LONG)
    assert data_threads() == []


class Gate:
    """A transform that says which batch it has reached, and waits there until it is let through."""

    def __init__(self):
        self.reached = threading.Semaphore(0)
        self.passes = threading.Semaphore(0)
        self.seen = []

    def __call__(self, batch, rng):
        self.seen.append(batch.tolist())
        self.reached.release()
        assert self.passes.acquire(timeout=LONG)
        return batch

    def wait(self):
        assert self.reached.acquire(timeout=LONG)

    def open(self, times=1):
        for _ in range(times):
            self.passes.release()


# What batches hold


@pytest.mark.parametrize("prefetch", [0, 1, 2, 5])
def test_batches_in_order_hold_each_row_once_and_the_last_is_smaller(prefetch):
    assert as_lists(of_ten(shuffle=False, prefetch=prefetch)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_drop_last_leaves_out_the_smaller_batch_of_each_epoch():
    assert as_lists(of_ten(shuffle=False, drop_last=True, epochs=2)) == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2


@given(rows=st.integers(1, 40), size=st.integers(1, 50), epochs=st.integers(1, 3), seed=st.integers(0, 9))
def test_every_epoch_holds_every_row_exactly_once(rows, size, epochs, seed):
    made = batches(np.arange(rows), size, epochs=epochs, seed=seed, prefetch=0)
    parts = list(made)
    assert len(parts) == len(made) == epochs * made.per_epoch
    for epoch in range(epochs):
        of_epoch = parts[epoch * made.per_epoch : (epoch + 1) * made.per_epoch]
        assert sorted(np.concatenate(of_epoch)) == list(range(rows))
        assert all(len(part) == size for part in of_epoch[:-1])


def test_each_epoch_and_each_seed_has_an_order_of_its_own():
    two = as_lists(batches(np.arange(100), 100, epochs=2, seed=3))
    other = as_lists(batches(np.arange(100), 100, seed=4))
    assert two[0] != two[1]
    assert two[0] != other[0]
    assert two[0] != list(range(100))


def test_the_order_of_an_epoch_does_not_depend_on_the_batch_size_or_the_prefetching():
    in_one = as_lists(batches(np.arange(100), 100, epochs=2, seed=3, prefetch=0))
    in_seven = as_lists(batches(np.arange(100), 15, epochs=2, seed=3, prefetch=4))
    assert [x for batch in in_seven for x in batch] == [x for batch in in_one for x in batch]


def test_a_transform_draws_the_same_numbers_for_a_batch_whatever_came_before_it():
    def noise(batch, rng):
        return batch + rng.random(len(batch))

    def noise_in_the_second_epoch(batch, rng):
        calls.append(batch)
        return noise(batch, rng) if len(calls) > 3 else batch

    calls = []
    full = as_lists(of_ten(epochs=2, seed=1, prefetch=3, transform=noise))
    half = as_lists(of_ten(epochs=2, seed=1, prefetch=0, transform=noise_in_the_second_epoch))
    assert full[3:] == half[3:]
    assert len({batch[0] % 1 for batch in full}) == 6  # each batch has its own stream


class Pair(NamedTuple):
    images: np.ndarray
    labels: np.ndarray


@pytest.mark.parametrize("kind", [tuple, list, Pair, dict])
def test_a_batch_has_the_structure_of_the_arrays_and_rows_stay_together(kind):
    images, labels = np.arange(20.0).reshape(10, 2), np.arange(10)
    arrays: Any = {
        tuple: (images, labels),
        list: [images, labels],
        Pair: Pair(images, labels),
        dict: {"images": images, "labels": labels},
    }[kind]
    for batch in batches(arrays, 3):
        assert type(batch) is kind
        x, y = batch.values() if kind is dict else batch
        np.testing.assert_array_equal(x[:, 0], 2 * y)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_transform_may_write_into_its_batch_without_touching_the_arrays(shuffle):
    def clear(batch, rng):
        batch[:] = -1
        return batch

    numbers = np.arange(10)
    assert {x for batch in batches(numbers, 4, shuffle=shuffle, transform=clear) for x in batch} == {-1}
    assert numbers.tolist() == list(range(10))


def test_memory_mapped_arrays_are_read_batch_by_batch(tmp_path):
    np.save(tmp_path / "numbers.npy", np.arange(10))
    mapped = np.load(tmp_path / "numbers.npy", mmap_mode="r")
    assert sorted(x for batch in batches(mapped, 4) for x in batch) == list(range(10))


# Several threads, and examples that are read one by one


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_batches_do_not_depend_on_the_number_of_threads(threads):
    def noise(batch, rng):
        return batch + rng.random(len(batch))

    alone = as_lists(of_ten(epochs=3, seed=4, prefetch=0, transform=noise))
    assert as_lists(of_ten(epochs=3, seed=4, threads=threads, transform=noise)) == alone


def test_a_batch_that_is_made_sooner_than_the_one_before_it_waits_for_its_turn():
    second_is_done = threading.Event()

    def slow_first(batch, rng):
        if batch[0] == 0:
            assert second_is_done.wait(LONG)
        if batch[0] == 4:
            second_is_done.set()
        return batch

    with of_ten(shuffle=False, threads=2, transform=slow_first) as made:
        assert as_lists(made) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_several_threads_end_with_the_last_batch_with_a_close_and_with_an_error():
    def spoil(batch, rng):
        if batch[0] == 8:
            raise ValueError("spoilt")
        return batch

    list(of_ten(threads=4))
    assert data_threads() == []
    with of_ten(threads=4, epochs=None) as endless:
        next(endless)
        assert len(data_threads()) == 4
    assert data_threads() == []
    failing = of_ten(threads=4, epochs=None, shuffle=False, transform=spoil)
    assert [next(failing)[0], next(failing)[0]] == [0, 4]
    with pytest.raises(DataError, match="transform spoil failed at batch 2 of epoch 0: ValueError: spoilt"):
        next(failing)
    assert data_threads() == []


def test_several_threads_end_once_nothing_refers_to_the_batches():
    for _ in range(50):
        next(of_ten(threads=3, epochs=None))
    gc.collect()
    for thread in data_threads():
        thread.join(LONG)
    assert data_threads() == []


class Files:
    """Examples that know who has read which of them."""

    def __init__(self, make, count=10):
        self.make, self.count, self.read = make, count, []

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        self.read.append(number)
        return self.make(number)


def test_examples_are_read_with_their_batch_and_stacked_in_their_structure():
    files = Files(lambda i: {"image": np.full((2, 2), i), "pair": (i, float(-i))})
    made = batches(files, 4, shuffle=False, prefetch=0)
    batch = next(made)
    assert files.read == [0, 1, 2, 3]
    assert batch["image"].shape == (4, 2, 2)
    assert batch["image"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert type(batch["pair"]) is tuple
    assert [part.tolist() for part in batch["pair"]] == [[0, 1, 2, 3], [0, -1, -2, -3]]
    assert len(list(made)) == 2


def test_shuffled_examples_are_those_of_shuffled_arrays_and_go_on_from_a_state():
    files = Files(lambda i: i)
    whole = as_lists(of_ten(seed=6, epochs=2))
    assert as_lists(batches(files, 4, seed=6, epochs=2, threads=3)) == whole
    later = batches(files, 4, seed=6, epochs=2)
    later.state = {**later.state, "taken": 4}
    assert as_lists(later) == whole[4:]


def test_a_split_of_examples_reads_none_of_them():
    files = Files(lambda i: i * i)
    rest, held_out = split(files, 3)
    assert (len(rest), len(held_out), files.read) == (7, 3, [])
    both = [batch.tolist() for part in (rest, held_out) for batch in batches(part, 10, shuffle=False)]
    assert sorted(both[0] + both[1]) == [i * i for i in range(10)]
    assert both == [sorted(part) for part in both]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda i: 1 // (i - 5), "batches: reading example 5 failed at batch 1 of epoch 0: ZeroDivisionError"),
        (
            lambda i: np.zeros(i),
            r"batches: stacking the examples failed at batch 0 of epoch 0: ShapeError: the examples differ in shape, \(0,\) and",
        ),
        (
            lambda i: (1,) * (1 + i // 2),
            "stacking the examples failed at batch 0 of epoch 0: ShapeError: some examples have 1 parts and others 2",
        ),
        (lambda i: {"x": 1} if i < 3 else {}, "stacking the examples failed at batch 0 of epoch 0: KeyError: 'x'"),
    ],
)
def test_an_example_that_fails_is_named_with_its_stage(make, text):
    with pytest.raises(DataError, match=text):
        list(batches(Files(make), 4, shuffle=False))


def test_no_examples_and_idle_threads_are_refused():
    with pytest.raises(ShapeError, match="there are no examples"):
        batches(Files(lambda i: i, count=0), 4)
    with pytest.raises(ArgumentError, match="3 threads have nothing to do where prefetch is 2"):
        of_ten(threads=3, prefetch=2)
    with pytest.raises(ArgumentError, match="batches: threads is 0, but at least 1 is needed"):
        of_ten(threads=0)


# Length and end


def test_the_length_counts_the_batches_of_all_epochs():
    assert len(of_ten(epochs=3)) == 9
    assert of_ten(epochs=3).per_epoch == 3
    assert len(of_ten(epochs=3, drop_last=True)) == 6


def test_endless_batches_go_on_and_have_no_length():
    with of_ten(epochs=None) as endless:
        with pytest.raises(TypeError, match="endless batches have no length"):
            len(endless)
        assert endless
        for _ in range(50):
            next(endless)


def test_a_second_loop_over_used_up_batches_is_an_error_and_not_silence():
    made = of_ten()
    assert len(list(made)) == 3
    assert next(made, "nothing") == "nothing"
    with pytest.raises(DataError, match="these batches are used up") as caught:
        list(made)
    assert "epochs=2" in str(caught.value)


def test_no_thread_starts_before_the_first_batch_and_none_is_left_after_the_last():
    made = of_ten()
    assert data_threads() == []
    next(made)
    assert len(data_threads()) == 1
    list(made)
    assert data_threads() == []


def test_without_prefetching_there_is_no_thread():
    where = []
    list(of_ten(prefetch=0, transform=lambda batch, rng: where.append(threading.current_thread())))
    assert set(where) == {threading.current_thread()}


# Prefetching and closing


def test_the_thread_makes_at_most_prefetch_batches_ahead():
    gate = Gate()
    gate.open(100)
    with of_ten(epochs=None, shuffle=False, prefetch=2, transform=gate) as made:
        next(made)
        for _ in range(3):  # one is handed out, two lie ready
            gate.wait()
        assert made._channel.slots.empty()
        assert len(gate.seen) == 3
        next(made)
        gate.wait()
        assert len(gate.seen) == 4


def test_batches_are_made_while_the_consumer_works_on_another():
    gate = Gate()
    gate.open(1)
    with of_ten(prefetch=2, transform=gate) as made:
        next(made)
        gate.wait()
        gate.wait()  # the thread is within the second transform, and nobody asked for that batch
        gate.open(2)
        assert len(list(made)) == 2


def test_close_ends_the_thread_and_frees_what_was_made_ahead():
    gate, alive = Gate(), []

    class Tracked(np.ndarray):
        pass

    def tracked(batch, rng):
        batch = gate(batch, rng).view(Tracked)
        alive.append(weakref.ref(batch))
        return batch

    gate.open(3)
    made = of_ten(epochs=None, prefetch=2, transform=tracked)
    first = next(made)
    for _ in range(3):
        gate.wait()
    made.close()
    made.close()
    assert data_threads() == []
    assert [ref() is not None for ref in alive] == [True, False, False]
    assert first is alive[0]()
    with pytest.raises(DataError, match="these batches are closed"):
        next(made)


def test_close_waits_for_a_transform_at_work_and_lets_no_other_begin():
    gate = Gate()
    gate.open(1)
    made = of_ten(prefetch=2, transform=gate)
    next(made)
    gate.wait()
    gate.wait()  # now within the second
    closing = threading.Thread(target=made.close)
    closing.start()
    assert closing.is_alive()
    gate.open(1)
    closing.join(LONG)
    assert not closing.is_alive()
    assert len(gate.seen) == 2
    assert data_threads() == []


def test_closing_from_another_thread_ends_the_consumer_with_an_error_and_not_as_if_the_data_had_ended():
    gate, outcome = Gate(), []
    made = of_ten(epochs=None, transform=gate)

    def consume():
        try:
            for _ in made:
                pass
        except DataError as error:
            outcome.append(error.message)

    consumer = threading.Thread(target=consume)
    consumer.start()
    gate.wait()
    closing = threading.Thread(target=made.close)
    closing.start()
    gate.open(1000)
    consumer.join(LONG)
    closing.join(LONG)
    assert outcome == ["these batches are closed"]


def test_a_consumer_that_asks_just_before_the_close_is_woken(monkeypatch):
    made = of_ten(epochs=None)
    next(made)
    ask = made._from_thread
    monkeypatch.setattr(made, "_from_thread", lambda: (made.close(), ask())[1])
    with pytest.raises(DataError, match="these batches are closed"):
        next(made)


def test_a_with_block_that_raises_ends_the_thread():
    with pytest.raises(KeyError):
        with of_ten(epochs=None) as made:
            next(made)
            raise KeyError
    assert data_threads() == []


def test_a_break_ends_the_thread_once_nothing_refers_to_the_batches():
    for _ in of_ten(epochs=None):
        (thread,) = data_threads()
        break
    gc.collect()
    thread.join(LONG)
    assert not thread.is_alive()


def test_dropping_the_batches_frees_the_arrays():
    class Tracked(np.ndarray):
        pass

    numbers = np.arange(10).view(Tracked)
    ref = weakref.ref(numbers)
    made = batches(numbers, 4, epochs=None)
    next(made)
    (thread,) = data_threads()
    del made, numbers
    gc.collect()
    thread.join(LONG)
    del thread
    gc.collect()
    assert ref() is None


def test_batches_in_a_reference_cycle_are_collected_from_whichever_thread():
    # The collector may run within the background thread itself, in the middle of a put: closing must not wait there.
    def collect(batch, rng):
        gc.collect()
        return batch

    class Holder:
        itself: object
        batches: Batches

    for _ in range(20):
        holder = Holder()
        holder.itself, holder.batches = holder, of_ten(epochs=None, transform=collect)
        next(holder.batches)
        del holder
    for thread in data_threads():
        for _ in range(1000):
            gc.collect()  # does nothing while another thread collects, so once is not enough
            thread.join(0.01)
            if not thread.is_alive():
                break
        assert not thread.is_alive()


def test_a_thousand_iterators_leave_no_thread():
    for _ in range(1000):
        next(of_ten())
    gc.collect()
    for thread in data_threads():
        thread.join(LONG)
    assert data_threads() == []


# Errors


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_the_transform_reaches_the_consumer_with_stage_batch_and_cause(prefetch, text_of):
    def spoil(batch, rng):
        if batch[0] == 4:
            raise ZeroDivisionError("no such scale")
        return batch

    made = of_ten(shuffle=False, epochs=2, prefetch=prefetch, transform=spoil)
    assert next(made).tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError) as caught:
        next(made)
    assert (
        text_of(caught.value)
        == (
            "batches: transform spoil failed at batch 1 of epoch 0: ZeroDivisionError: no such scale\n"
            + ("" if prefetch else "  at          test_data.py:LINE    next(made)\n")  # (else it happened on another thread)
            + '  raised at   test_data.py:LINE    raise ZeroDivisionError("no such scale")\n'
            "  stage       transform spoil\n"
            "  batch       1 of epoch 0, both counted from 0"
        )
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert data_threads() == []
    with pytest.raises(DataError, match="have stopped at an error"):
        next(made)


def test_batches_before_the_error_are_all_handed_out():
    def spoil(batch, rng):
        if batch[0] == 8:
            raise ValueError
        return batch

    made = of_ten(shuffle=False, prefetch=5, transform=spoil)
    assert [next(made)[0], next(made)[0]] == [0, 4]
    with pytest.raises(DataError, match="batch 2 of epoch 0"):
        next(made)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_an_array_reaches_the_consumer(prefetch):
    class Broken(np.ndarray):
        def __getitem__(self, index):
            raise OSError("the disk is gone")

    made = batches(np.arange(10).view(Broken), 4, prefetch=prefetch)
    with pytest.raises(DataError, match="reading the arrays failed at batch 0 of epoch 0: OSError: the disk is gone"):
        next(made)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_stop_iteration_in_a_transform_is_an_error_and_not_the_end(prefetch):
    def stop(batch, rng):
        return next(iter([]))

    with pytest.raises(DataError, match="transform stop failed at batch 0 of epoch 0: StopIteration"):
        list(of_ten(prefetch=prefetch, transform=stop))


def test_a_failed_iterator_keeps_nothing_alive_once_its_error_is_dropped():
    class Tracked(np.ndarray):
        pass

    numbers = np.arange(10).view(Tracked)
    ref = weakref.ref(numbers)

    def fail(arrays):
        with pytest.raises(DataError):
            list(batches(arrays, 4, transform=lambda batch, rng: 1 / 0))

    fail(numbers)
    del numbers
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize(
    "arrays, size, options, error, text",
    [
        ((np.zeros(3), np.zeros(4)), 2, {}, ShapeError, "differ in their first size: 3 in array 0, 4 in array 1"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, 2, {}, ShapeError, "3 in array 'x', 4 in array 'y'"),
        (np.zeros((0, 2)), 2, {}, ShapeError, "have no rows"),
        (np.zeros(()), 2, {}, ShapeError, "a single number"),
        ((), 2, {}, ArgumentError, "there is no array"),
        ([1, 2, 3], 2, {}, ArgumentError, "array 0 is no array but 1"),
        (np.zeros(3), 0, {}, ArgumentError, "size is 0, but at least 1 is needed"),
        (np.zeros(3), 2.0, {}, ArgumentError, "size is 2.0 and not an int"),
        (np.zeros(3), 4, {"drop_last": True}, ArgumentError, "drop_last leaves nothing of 3 rows"),
        (np.zeros(3), 2, {"epochs": 0}, ArgumentError, "epochs is 0"),
        (np.zeros(3), 2, {"seed": -1}, ArgumentError, "seed is -1"),
        (np.zeros(3), 2, {"prefetch": -1}, ArgumentError, "prefetch is -1"),
        (np.zeros(3), 2, {"transform": "shift"}, ArgumentError, "transform is 'shift' and cannot be called"),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_batch(arrays, size, options, error, text):
    with pytest.raises(error) as caught:
        batches(arrays, size, **options)
    assert text in str(caught.value)


# Splits


def test_the_parts_of_a_split_hold_each_row_once_and_together():
    images, labels = np.arange(20.0).reshape(10, 2), np.arange(10)
    (x, y), (held_x, held_y) = split((images, labels), 3, seed=1)
    assert (len(y), len(held_y)) == (7, 3)
    assert sorted([*y, *held_y]) == list(range(10))
    np.testing.assert_array_equal(x[:, 0], 2 * y)
    np.testing.assert_array_equal(held_x[:, 0], 2 * held_y)


def test_a_split_depends_on_its_seed_only_and_a_fraction_means_its_share_of_rows():
    numbers = np.arange(50)
    once, again, other = (split(numbers, 0.2, seed=seed)[1].tolist() for seed in (1, 1, 2))
    assert len(once) == 10
    assert once == again != other


@pytest.mark.parametrize("held_out", [0, 10, 11, -1, 0.0, 1.0, 0.01, True, "some"])
def test_a_split_that_leaves_a_part_empty_is_an_error(held_out):
    with pytest.raises(ArgumentError, match="split"):
        split(np.arange(10), held_out)


# Images


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64"])
def test_standardized_images_have_mean_zero_and_deviation_one_in_float32(dtype):
    images = np.random.default_rng(0).integers(0, 256, (50, 1, 9, 9)).astype(dtype)
    result = standardize(images)
    assert (result.dtype.name, result.shape) == ("float32", images.shape)
    np.testing.assert_allclose(result, (images - images.mean()) / images.std(), rtol=1e-5, atol=1e-5)


def test_a_given_mean_and_deviation_may_be_one_for_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4)).astype("uint8")
    mean, std = images.mean((0, 2, 3), keepdims=True), images.std((0, 2, 3), keepdims=True)
    result = standardize(images, mean, std)
    np.testing.assert_allclose(result.mean((0, 2, 3)), np.zeros(3), atol=1e-5)
    np.testing.assert_allclose(result.std((0, 2, 3)), np.ones(3), rtol=1e-5)


def test_images_that_cannot_be_standardized_are_refused():
    with pytest.raises(ArgumentError, match="std is 0"):
        standardize(np.full((2, 3), 7))
    with pytest.raises(ArgumentError, match="both mean and std"):
        standardize(np.arange(4), mean=1.0)
    with pytest.raises(ShapeError, match="hold no number"):
        standardize(np.zeros((0, 3)))


def shifted(image, down, across, fill=0):
    result = np.full_like(image, fill)
    height, width = image.shape[-2:]
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - across < width:
                result[..., i, j] = image[..., i - down, j - across]
    return result


@pytest.mark.parametrize("shape", [(40, 5, 4), (40, 3, 5, 4)])
@pytest.mark.parametrize("pixels", [0, 1, 2, 6])
def test_a_random_shift_moves_each_image_whole_by_at_most_its_pixels(shape, pixels):
    images = np.random.default_rng(0).integers(1, 256, shape).astype("uint8")
    result = random_shift(pixels, fill=9)(images, np.random.default_rng(1))
    assert result.flags.c_contiguous
    assert (result.dtype, result.shape) == (images.dtype, images.shape)
    offsets = [(down, across) for down in range(-pixels, pixels + 1) for across in range(-pixels, pixels + 1)]
    for before, after in zip(images, result):
        assert any(np.array_equal(after, shifted(before, *offset, fill=9)) for offset in offsets)


def test_every_shift_occurs():
    image = np.zeros((1000, 5, 5))
    image[:, 2, 2] = 1
    result = random_shift(2)(image, np.random.default_rng(0))
    assert (result.sum(0) > 10).all()


def test_random_shift_moves_the_images_of_a_batch_and_leaves_the_rest():
    images, labels = np.ones((4, 3, 3)), np.arange(4)
    x, y = random_shift(1)((images, labels), np.random.default_rng(0))
    z = random_shift(1, part="x")({"x": images, "y": labels}, np.random.default_rng(0))
    np.testing.assert_array_equal(x, z["x"])
    assert y is labels and z["y"] is labels
    assert (images == 1).all()


def test_random_shift_says_where_it_found_no_images():
    with pytest.raises(ArgumentError, match="no part 0, but 'x'"):
        random_shift(1)({"x": np.ones((2, 3, 3))}, np.random.default_rng(0))
    with pytest.raises(DataError, match=r"transform random_shift\(1\) failed at batch 0 .*ShapeError.*got \(2, 9\)"):
        list(batches(np.ones((2, 9)), 2, transform=random_shift(1)))


# MNIST's files


SMALL = {
    "train-images-idx3-ubyte": np.arange(3 * 28 * 28, dtype="u1").reshape(3, 28, 28),
    "train-labels-idx1-ubyte": np.array([5, 0, 4], "u1"),
    "t10k-images-idx3-ubyte": np.arange(2 * 28 * 28, dtype="u1").reshape(2, 28, 28)[:, ::-1],
    "t10k-labels-idx1-ubyte": np.array([7, 2], "u1"),
}
IMAGES = "train-images-idx3-ubyte"
PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def write(folder, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in SMALL.items():
        (folder / (name + ending)).write_bytes(PACK[ending](idx(array)))
    return folder


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A machine without MNIST, for which MNIST has five digits; the mirror is a folder."""
    files = [mnist_module._File(array.shape, hashlib.sha256(idx(array)).hexdigest(), name) for name, array in SMALL.items()]
    monkeypatch.setattr(mnist_module, "FILES", files)
    monkeypatch.setattr(mnist_module, "__file__", str(tmp_path / "installed" / "flowgraph" / "data" / "mnist.py"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FLOWGRAPH_DATA", raising=False)
    monkeypatch.setattr(mnist_module, "_cache", lambda: tmp_path / "cache" / "mnist")
    monkeypatch.setattr(mnist_module, "MIRROR", (tmp_path / "mirror").as_uri() + "/")
    return tmp_path


def assert_small(digits):
    for got, expected in zip((digits.train_images, digits.train_labels, digits.test_images, digits.test_labels), SMALL.values()):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == np.uint8
        assert got.flags.writeable


def test_the_repository_holds_the_real_mnist():
    digits = mnist(download=False)
    assert digits.train_images.shape == (60000, 28, 28)
    assert digits.test_images.shape == (10000, 28, 28)
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(digits.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(float(digits.train_images.mean(dtype="f8")), 4) == 33.3184
    assert repr(digits) == "Mnist(60000 training images, 10000 test images)"


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_files_may_be_plain_or_compressed(small, ending):
    assert_small(mnist(write(small / "mine", ending), download=False))


@pytest.mark.parametrize("place", ["given", "given/mnist", "variable", "checkout", "current", "cache"])
def test_files_are_found_in_each_place(small, monkeypatch, place):
    given = None
    if place.startswith("given"):
        given = write(small / place) and small / "given"
    elif place == "variable":
        monkeypatch.setenv("FLOWGRAPH_DATA", str(write(small / "variable")))
    elif place == "checkout":
        write(small / "installed" / "examples" / "data" / "mnist", ".xz")
    elif place == "current":
        write(small / "here" / "examples" / "data" / "mnist", ".xz")
    else:
        write(small / "cache" / "mnist", ".gz")
    assert_small(mnist(given, download=False))


def test_the_given_directory_comes_first(small, monkeypatch):
    monkeypatch.setenv("FLOWGRAPH_DATA", str(write(small / "variable")))
    write(small / "given")
    (small / "given" / IMAGES).write_bytes(b"something else")
    with pytest.raises(FileFormatError, match="given"):
        mnist(small / "given")


def test_what_is_nowhere_is_downloaded_once_and_kept(small):
    write(small / "mirror", ".gz")
    assert_small(mnist())
    kept = sorted(path.name for path in (small / "cache" / "mnist").iterdir())
    assert kept == sorted(f"{name}.gz" for name in SMALL)
    for path in (small / "mirror").iterdir():
        path.unlink()
    assert_small(mnist(download=False))


def test_a_download_that_is_not_mnist_is_not_kept(small):
    write(small / "mirror", ".gz")
    (small / "mirror" / f"{IMAGES}.gz").write_bytes(b"<html>please log in</html>")
    with pytest.raises(DataError, match=rf"what came from .*{IMAGES}.gz is not that file"):
        mnist()
    assert list((small / "cache" / "mnist").iterdir()) == []


@pytest.mark.parametrize("download", [True, False])
def test_without_files_and_network_the_error_says_which_files_go_where(small, download):
    with pytest.raises(DataError) as caught:
        mnist(small / "given", download=download)
    text = str(caught.value)
    assert text.startswith(f"mnist: {IMAGES} is not on this machine, and ")
    assert ("cannot be reached" if download else "download=False") in text
    for name in SMALL:
        assert f"{name}.gz" in text
    for folder in (small / "given", small / "cache" / "mnist"):
        assert str(folder) in text


def damaged(kind, ending):
    content = idx(SMALL[IMAGES])
    return {
        "empty": b"",
        "not compressed": content,
        "truncated": PACK[ending](content)[:-30],
        "cut content": PACK[ending](content[:-30]),
        "cut header": PACK[ending](content[:9]),
        "magic": PACK[ending](b"\0\0\x0d" + content[3:]),
        "shape": PACK[ending](idx(SMALL[IMAGES][:2])),
        "longer": PACK[ending](content + b"\0"),
        "a bit": PACK[ending](content[:-1] + bytes([content[-1] ^ 1])),
        "a packed bit": PACK[ending](content)[:-25] + b"\x55" + PACK[ending](content)[-24:],
    }[kind]


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
@pytest.mark.parametrize(
    "kind, text",
    [
        ("empty", ""),
        ("not compressed", "cannot be read"),
        ("truncated", ""),
        ("cut content", "truncated: 2338 bytes of 2368"),
        ("cut header", "holds an array of shape (3, 0, 0)"),
        ("magic", "starts with 00000d03 where IDX has 00000803"),
        ("shape", "holds an array of shape (2, 28, 28), and not (3, 28, 28)"),
        ("longer", "longer than 2368 bytes"),
        ("a bit", "SHA-256"),
        ("a packed bit", ""),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong_and_what_to_do(small, ending, kind, text):
    if kind == "not compressed" and not ending:
        pytest.skip("a plain file is never compressed")
    path = write(small / "mine", ending) / (IMAGES + ending)
    path.write_bytes(damaged(kind, ending))
    with pytest.raises(FileFormatError) as caught:
        mnist(small / "mine", download=False)
    assert str(caught.value).startswith(f"mnist: {path} is not the MNIST file of that name: ")
    assert text in str(caught.value)
    assert "delete this file" in str(caught.value)


def test_a_file_that_expands_without_end_is_read_no_further_than_needed(small):
    path = write(small / "mine", ".xz") / f"{IMAGES}.xz"
    path.write_bytes(lzma.compress(idx(SMALL[IMAGES]) + bytes(50_000_000)))
    with pytest.raises(FileFormatError, match="longer than 2368 bytes"):
        mnist(small / "mine", download=False)


def test_the_cache_is_the_users_own(monkeypatch, tmp_path):
    if sys.platform == "win32":
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    elif sys.platform == "darwin":
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = mnist_module._cache()
    assert cache.is_relative_to(tmp_path)
    assert cache.parts[-2:] == ("flowgraph", "mnist")
