"""Runs an example with so many threads a session, and prints one hash of what the variables of its sessions end as.

python tests/example_bits.py THREADS EXAMPLE [ARGUMENTS ...]
"""

import hashlib
import runpy
import sys
from pathlib import Path

import numpy as np

import flowgraph as fg
from flowgraph.session import session as sessions


def main(threads: int, path: str, *arguments: str) -> None:
    found, close = hashlib.sha256(), fg.Session.close

    def closed(self: fg.Session, *args: object, **kwargs: object) -> None:
        for node in sorted(self._state.values):
            found.update(np.ascontiguousarray(self._state.values[node]).tobytes())
        close(self, *args, **kwargs)

    setattr(sessions, "processors", lambda: threads)  # noqa: B010 (not a name that the module exports)
    fg.Session.close = closed  # type: ignore[method-assign]
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")
    print("bits", found.hexdigest())


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
