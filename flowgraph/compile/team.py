"""Team: all tasks of a plan as tapes, which a few threads work off together, each as soon as those that it waits for have run.

For plans that consist of what a tape can do, but for kernels at their start that need no more than what a run is given: these are called
from Python before. All that several tasks touch is there from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..jit.tape import Tape, is_possible, team_call
from ..records import field
from .native import Sections
from .plan import Plan, Unit
from .section import Layout, Section

# A plan is left to the pool where it takes more memory than this besides what its tasks need one by one, as a part of that and in bytes.
MOST_MORE, MOST_MORE_BYTES = 0.25, 4 * 2**20
# A run of this length, by estimate, may end a little later than it is stopped.
LONGEST_SECONDS = 0.1
MOST_TASKS = 512


class Team(Section, frozen=False, eq=False):
    """A section of all units, with a tape for each task.

    early   units that are run before
    tapes   of each task, and ``after``: for each the tasks that it waits for; ``order``: the tasks, the most urgent first
    nbytes  of all that is made for a run, and ``scratch``: bytes that a kernel works in besides, at most
    """

    early: list[Unit] = field(default_factory=list)
    tapes: list[Tape] = field(default_factory=list)
    after: list[tuple[int, ...]] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    nbytes: int = 0
    scratch: int = 0
    board: Any = None

    @property
    def title(self) -> str:
        return f"{super().title}, {len(self.tapes)} tasks that several threads work off together"

    def bind(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """A function of what it reads, makes, and gets from the pool; helpers find its tasks through ``board``. It raises MemoryError."""
        place = {task: number for number, task in enumerate(self.order)}
        tasks = [(self.tapes[task], tuple(sorted(place[before] for before in self.after[task]))) for task in self.order]
        return self.watched(team_call(tasks, otherwise, self.board, stack=0 if self.buffers != self.holds else self.arena))


def team_of(plan: Plan) -> Team | None:
    """The team of a plan; None where a part of it has to go through Python, or where it would take much more memory."""
    if plan.sections is None or not 1 < len(plan.tasks) <= MOST_TASKS or plan.seconds > LONGEST_SECONDS:
        return None
    if not is_possible():
        return None
    sections = Sections(plan)
    known = {slot for _, slot in (*plan.feeds, *plan.variables)} | {slot for slot, _ in plan.constants} | {plan.run_key}
    team = Team([])
    work = []
    for task in plan.tasks:
        here = []
        for unit in task.units:
            made = sections._instructions(unit)
            if made is not None:
                here.append((unit, made))
                team.units.append(unit)
            elif unit.mode == "fresh" and not unit.bodies and known.issuperset(unit.inputs):
                team.early.append(unit)
                known.add(unit.output)
            else:
                return None
        work.append(here)
    layout = Layout(sections, team)
    ends = []
    for here in work:
        layout.forget()  # what another task has let go of may still be in use when this one runs
        for unit, instructions in here:
            layout.write_over(unit)
            for each in instructions:
                layout.add(each)
            layout.free(unit)
        ends.append(len(layout.placed))
    prepared = {slot: spec for task in plan.tasks for slot, spec in task.prepares}
    if not layout.settle(prepared):
        return None
    wanted = {*plan.fetches, *[slot for _, slot in plan.updates]}
    team.shares = [(slot, other) for slot, other in team.shares if slot in wanted]
    team.views = [view for view in team.views if view.output in wanted]
    _share_arrays(plan, team, layout, ends, wanted)
    team.nbytes = team.arena + sum(int(spec.nbytes) for spec in (*team.holds, *[spec for _, spec, _ in team.makes]))
    if team.nbytes > plan.peak_bytes * (1 + MOST_MORE) + MOST_MORE_BYTES:
        return None
    team.scratch = max(unit.scratch for unit in plan.units)
    team.tapes = [layout.tape(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    team.after = [task.after for task in plan.tasks]
    team.order = sorted(range(len(plan.tasks)), key=lambda task: (-plan.tasks[task].priority, task))
    filled = {slot for slot, _, mode in team.makes if mode == "take"}
    team.recycles = tuple([storage.recycles for storage in plan.storages.values() if storage.recycles in filled])
    team.frees = ()
    return team


def _share_arrays(plan: Plan, team: Team, layout: Layout, ends: Sequence[int], wanted: Collection[int]) -> None:
    """Lets a buffer have the array of another where all tasks that touch that are over when the first begins that touches this.

    ends    how many instructions there are up to the end of each task
    wanted  slots that are handed out
    """
    before: list[int] = []  # of each task, bits: those that are over when it begins
    touching: dict[int, int] = {}  # slot -> the tasks that touch it
    for task, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        known = 0
        for other in plan.tasks[task].after:
            known |= before[other] | 1 << other
        before.append(known)
        for _, places in layout.placed[start:end]:
            for slot, _ in places:
                touching[slot] = touching.get(slot, 0) | 1 << task
    areas = map(layout.sections.area, (*wanted, *[other for _, other in team.shares]))
    kept = {area.slot for area in areas if area is not None} | set(wanted)
    free: dict[int, list[tuple[int, int]]] = {}  # bytes -> (slot, the tasks that touch its array)
    makes = []
    for slot, spec, mode in sorted(team.makes, key=lambda made: touching.get(made[0], 0) & -touching.get(made[0], 0)):
        tasks = touching.get(slot, 0)
        if mode != "take" or slot in kept or not tasks:
            makes.append((slot, spec, mode))
            continue
        over = -1
        for task in range(tasks.bit_length()):
            over &= before[task] if tasks >> task & 1 else -1
        arrays = free.setdefault(int(spec.nbytes), [])
        found = next((k for k, (_, others) in enumerate(arrays) if not others & ~over), None)
        if found is None:
            arrays.append((slot, tasks))
            makes.append((slot, spec, mode))
        else:
            other, others = arrays[found]
            arrays[found] = other, others | tasks
            team.stands[slot] = other
    team.makes = makes
