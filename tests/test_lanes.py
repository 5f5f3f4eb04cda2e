"""Lanes of kernels: what is independent is side by side, what is not waits, and no wait is without need."""

import numpy as np
import pytest

from flowgraph.runtime.lanes import START, Step, lanes_of

LONG, SHORT, FULL = 10e-6, 2e-6, 100e-6


def chain(count, seconds=LONG, first=0, source=1000):
    """Kernels each of which reads what the one before made."""
    return [Step((first + i - 1 if i else source,), first + i, seconds=seconds) for i in range(count)]


def needed(steps):
    """For each step those that have to be over: who made what it reads, and of what it writes who read or wrote it."""
    alike: dict[int, set[int]] = {}  # slot -> the slots whose memory it may lie in
    found: list[set[int]] = []
    for index, step in enumerate(steps):
        seen = {root for slot in step.reads for root in alike.get(slot, {slot})}
        over = {root for slot in step.writes for root in alike.get(slot, {slot})}
        before = set()
        for other, earlier in enumerate(steps[:index]):
            if earlier.kind != "kernel":
                continue
            read = {root for slot in earlier.reads for root in alike.get(slot, {slot})}
            wrote = {root for slot in earlier.writes for root in alike.get(slot, {slot})} | {earlier.makes}
            if wrote & (seen | over) or read & over:
                before.add(other)
        found.append(before if step.kind == "kernel" else set())
        looks = step.kind == "view" or (step.kind == "kernel" and not step.seconds)
        alike[step.makes] = {step.makes, *(seen if looks else ())} if step.kind != "view" else seen
    return found


def behind(lanes, waits):
    """For each step those that it is behind, by lanes and waits alone."""
    known: list[set[int]] = []
    last: dict[int, int] = {}
    for index, lane in enumerate(lanes.lane):
        before = set(known[last[lane]]) | {last[lane]} if lane in last else set()
        for step in waits[index]:
            if step != START:
                before |= known[step] | {step}
        known.append(before)
        last[lane] = index
    return known


def is_right(steps, lanes, waits=None):
    kernels = [step.kind == "kernel" for step in steps]
    known = behind(lanes, lanes.waits if waits is None else waits)
    # (What asks for nothing is on no lane.)
    return all(need <= {i for i in known[index] if kernels[i]} for index, need in enumerate(needed(steps)))


def test_a_chain_is_on_one_lane_and_waits_for_nothing():
    lanes = lanes_of(chain(20))
    assert (lanes.width, set(lanes.lane), set(lanes.waits), lanes.seconds) == (1, {0}, {()}, lanes.serial)


def test_chains_that_know_nothing_of_each_other_are_side_by_side():
    lanes = lanes_of([*chain(4), *chain(4, first=10), *chain(4, first=20)])
    assert lanes.lane == [0] * 4 + [1] * 4 + [2] * 4
    assert [lanes.waits[i] for i in (0, 4, 8)] == [(), (START,), (START,)] and sum(map(len, lanes.waits)) == 2
    assert lanes.seconds == pytest.approx(lanes.serial / 3)


def test_there_are_so_many_lanes_at_most():
    steps = [step for i in range(20) for step in chain(3, first=10 * i)]
    assert lanes_of(steps).width == 8 and lanes_of(steps, 3).width == 3 and lanes_of(steps, 1).width == 1


def test_a_join_waits_for_the_end_of_the_other_branch_alone():
    r"""
      0
     / \
        1   2
    |   |
    3   4
     \ /
      5
    """
    steps = [Step((99,), 0, seconds=LONG), Step((0,), 1, seconds=LONG), Step((0,), 2, seconds=LONG), Step((1,), 3, seconds=LONG)]
    steps += [Step((2,), 4, seconds=LONG), Step((3, 4), 5, seconds=LONG)]
    lanes = lanes_of(steps)
    assert lanes.lane[:5] == [0, 0, 1, 0, 1]
    assert lanes.waits[2] == (0,) and lanes.waits[4] == () and lanes.waits[5] == ((4,) if lanes.lane[5] == 0 else (3,))
    assert lanes.marked == {0, *lanes.waits[5]}


def test_a_wait_that_another_implies_is_left_out():
    steps = [*chain(3), *chain(3, first=10), Step((2, 10, 12), 20, seconds=LONG), Step((11, 20), 21, seconds=LONG)]
    lanes = lanes_of(steps)
    assert lanes.lane == [0, 0, 0, 1, 1, 1, 1, 1] or lanes.lane == [0, 0, 0, 1, 1, 1, 0, 0]
    assert len(lanes.waits[6]) == 1 and lanes.waits[7] == ()


def test_kernels_that_take_no_longer_than_a_launch_stay_where_they_are():
    steps = [Step((99,), 0, seconds=SHORT), *[Step((0,), i, seconds=SHORT) for i in range(1, 3)], Step((1, 2), 3, seconds=SHORT)]
    assert lanes_of(steps).width == 1


def test_kernels_that_fill_the_device_gain_nothing_side_by_side():
    assert lanes_of([*chain(4, FULL), *chain(4, FULL, first=10)]).width == 1
    beside = lanes_of([*chain(2, FULL), *chain(8, LONG, first=10)])
    assert beside.width == 2 and beside.seconds == pytest.approx(2 * FULL)


def test_a_variable_is_written_behind_all_who_read_it():
    """Slot 50 is the variable; three branches read it, and the first has its new value."""
    steps = [step for i in range(3) for step in (Step((50, 99), 10 * i, seconds=LONG), Step((10 * i,), 10 * i + 1, seconds=LONG))]
    steps.append(Step((1,), -1, (50,), SHORT))
    lanes = lanes_of(steps)
    assert lanes.width == 3
    assert set(lanes.waits[6]) == {i for i in (0, 2, 4) if lanes.lane[i] != lanes.lane[6]}


def test_a_view_is_waited_for_through_who_made_what_it_shows():
    steps = [*chain(3), Step((1,), 30, kind="view"), *chain(3, first=10), Step((30, 12), 31, seconds=LONG), Step((2,), 32, seconds=LONG)]
    lanes = lanes_of(steps)
    assert lanes.waits[3] == () and lanes.lane[7] == lanes.lane[6] != lanes.lane[1] and lanes.waits[7] == (1,)


def test_memory_that_a_kernel_writes_is_made_on_its_lane():
    steps = [*chain(3), Step((), 40, kind="buffer"), Step((99, 40), 41, (40,), LONG), *chain(2, first=10, source=40)]
    lanes = lanes_of(steps)
    assert lanes.lane[3] == lanes.lane[4] != lanes.lane[0] and lanes.lane[5] == lanes.lane[4] and lanes.waits[5] == ()


def drawn(seed):
    """Steps of a random program: kernels, views, memory to write into, writes at the end."""
    rng = np.random.default_rng(seed)
    steps: list[Step] = []
    slots, variables, slot = [100, 101, 102], [100, 101], 0
    while len(steps) < 40:
        reads = tuple(int(x) for x in rng.choice(slots, size=rng.integers(1, 4)))
        kind = rng.choice(["kernel", "kernel", "kernel", "view", "maybe", "buffer"])
        if kind == "buffer":
            steps += [Step((), slot, kind="buffer"), Step((*reads, slot), slot + 1, (slot,), float(rng.choice([SHORT, LONG])))]
            slots += [slot, slot + 1]
            slot += 2
            continue
        seconds = 0.0 if kind in ("view", "maybe") else float(rng.choice([SHORT, LONG, FULL]))
        steps.append(
            Step(reads[:1] if kind in ("view", "maybe") else reads, slot, seconds=seconds, kind="view" if kind == "view" else "kernel")
        )
        slots.append(slot)
        slot += 1
    return [*steps, *[Step((int(rng.choice(slots)),), -1, (variable,), SHORT) for variable in variables]]


@pytest.mark.parametrize("seed", range(30))
def test_every_step_is_behind_what_it_needs_and_no_wait_is_without_need(seed):
    steps = drawn(seed)
    lanes = lanes_of(steps)
    assert is_right(steps, lanes)
    assert lanes == lanes_of(steps)  # by the plan alone
    for index, waits in enumerate(lanes.waits):
        for step in waits:
            if step != START:
                fewer = [tuple(x for x in each if (i, x) != (index, step)) for i, each in enumerate(lanes.waits)]
                assert not is_right(steps, lanes, fewer)


@pytest.mark.parametrize("seed", range(30))
def test_what_a_lane_knows_is_what_it_is_behind(seed):
    steps = drawn(seed)
    lanes = lanes_of(steps)
    for index, before in enumerate(behind(lanes, lanes.waits)):
        for other in set(range(lanes.width)) - {lanes.lane[index]}:
            if steps[index].kind == "kernel":
                assert lanes.known[index][other] == max([i for i in before if lanes.lane[i] == other], default=START)


def test_the_first_step_of_a_lane_waits():
    """Else its stream would take no part in the capture."""
    widths = []
    for steps in map(drawn, range(30)):
        lanes = lanes_of(steps)
        widths.append(lanes.width)
        for lane in range(1, lanes.width):
            assert lanes.waits[next(i for i, each in enumerate(lanes.lane) if each == lane and steps[i].kind == "kernel")]
    assert np.mean(np.array(widths) > 1) > 0.5
