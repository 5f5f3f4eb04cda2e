"""``python -m benchmarks.gpu``: measure flowgraph on a GPU beside torch and JAX, in turns on the same card, and write the table.

Each rival has a process of its own. It makes a step ready, is compared with the first rival, and then takes turns, round after round; a
figure is the median over rounds of the time of a step among many that follow each other without waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from importlib import util
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.models import MODELS
from benchmarks.gpu.rivals import RIVALS

MODULES = {"flowgraph": "flowgraph", "torch": "torch", "torch-compile": "torch", "jax": "jax"}
TOLERANCE = 2e-2  # of the largest number: sums of thousands of products in other orders, and TF32 where that is asked for


def main(arguments: list[str]) -> int:
    """0 if all rivals that are there computed the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="only this one (may be repeated)")
    parser.add_argument("--rival", action="append", choices=list(MODULES), help="only this one (may be repeated)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to see whether everything computes the same")
    parser.add_argument("--small", action="store_true", help="small models, which mean nothing")
    parser.add_argument("--tf32", action="store_true", help="let all rivals compute products in TF32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn")
    parser.add_argument("--output", type=Path, help="folder to write RESULTS.md and results.json to")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.worker is not None:
        work(asked, Connection(asked.worker))
        return 0
    if asked.device == "cuda" and (why := why_no_gpu()):
        print(f"nothing to measure: {why}; --device cpu --small only compares the rivals' values", file=sys.stderr)
        return 0
    rows: list[dict[str, Any]] = []
    for name in asked.model or list(MODELS):
        rows += measured(name, asked, arguments)
        print(table([row for row in rows if row["model"] == name]), flush=True)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        (asked.output / "RESULTS.md").write_text(f"# GPU benchmarks\n\n{describe(asked)}\n\n{table(rows)}\n")
        (asked.output / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["state"] in ("failed", "wrong") for row in rows))


def why_no_gpu() -> str:
    """Why there is nothing to measure on; empty where there is."""
    import flowgraph as fg

    return next((device.missing for device in fg.devices() if device.name.startswith("cuda")), "no GPU")


def measured(name: str, asked: argparse.Namespace, arguments: list[str]) -> list[dict[str, Any]]:
    """A row for each rival on one model."""
    rows, workers, expected = [], {}, None
    for rival in asked.rival or list(MODULES):
        row: dict[str, Any] = {"model": name, "rival": rival, "state": "measured", "reason": "", "times": []}
        rows.append(row)
        if util.find_spec(MODULES[rival]) is None:
            row["state"] = "not installed"
            continue
        ours, theirs = Pipe()
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
        if asked.device == "cpu":
            environment["JAX_PLATFORMS"] = "cpu"
        command = [sys.executable, "-m", "benchmarks.gpu", *arguments, "--worker", str(theirs.fileno()), "--model", name, "--rival", rival]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, cwd=Path(__file__).parents[2])
        theirs.close()
        answer = ours.recv()
        if isinstance(answer, str):
            row["state"], row["reason"] = "failed", answer
            process.wait()
            continue
        if expected is None:
            expected = answer
        difference = float(np.abs(answer - expected).max() / max(float(np.abs(expected).max()), 1e-30))
        if not difference <= TOLERANCE:
            row["state"], row["reason"] = "wrong", f"differs from {rows[0]['rival']} by {difference:.1e}"
        workers[rival] = (ours, process, row)
    for turn in range(asked.rounds):
        order = list(workers.values())
        for ours, _, row in order[turn % max(len(order), 1) :] + order[: turn % max(len(order), 1)]:
            ours.send(asked.seconds)
            row["times"].append(ours.recv())
    for ours, process, _ in workers.values():
        ours.close()
        process.wait()
    return rows


def work(asked: argparse.Namespace, pipe: Connection) -> None:
    """A rival's process: sends what a step gives, then the seconds of a step for each turn that it is asked for."""
    try:
        rival = next(each for each in RIVALS if each.name == asked.rival[-1])(asked.device, asked.tf32)
        step, wait, on_host = rival.prepare(MODELS[asked.model[-1]], asked.small)
        results = [on_host(step()) for _ in range(3)]
        wait()
        pipe.send(np.array(results[-1], np.float64))
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}")
        return
    while True:
        try:
            seconds = pipe.recv()
        except EOFError:
            return
        pipe.send(step_seconds(step, wait, seconds))


def step_seconds(step: Any, wait: Any, seconds: float) -> float:
    """Of one step among many, none of which is waited for before the next is asked for."""
    count = 1
    while True:
        wait()
        start = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        taken = time.perf_counter() - start
        if taken >= seconds / 2:
            return taken / count
        count = max(count + 1, int(count * min(10.0, seconds / max(taken, 1e-9))))


def table(rows: list[dict[str, Any]]) -> str:
    """Medians, with their spread and the ratio of flowgraph's to the best rival's."""
    lines = ["| workload | rival | a step | spread | flowgraph is |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        title = MODELS[row["model"]].title
        if not row["times"]:
            lines.append(f"| {title} | {row['rival']} | {row['state']} | {row['reason']} | |")
            continue
        own = statistics.median(row["times"])
        ours = [each for each in rows if each["model"] == row["model"] and each["rival"] == "flowgraph" and each["times"]]
        ratio = f"{statistics.median(ours[0]['times']) / own:.2f} x" if ours and row["rival"] != "flowgraph" else ""
        spread = f"{shown(min(row['times']))} to {shown(max(row['times']))}"
        state = "" if row["state"] == "measured" else f" ({row['state']}: {row['reason']})"
        lines.append(f"| {title} | {row['rival']}{state} | {shown(own)} | {spread} | {ratio} |")
    return "\n".join(lines)


def shown(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def describe(asked: argparse.Namespace) -> str:
    import flowgraph as fg

    return "\n".join([*map(str, fg.devices()), "TF32 is on." if asked.tf32 else "TF32 is off.", f"{asked.rounds} rounds, in turns."])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
