"""What the commands share that libraries add to the command line: how they read, and how a Python file is run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# What a Python file is run by: the file, its arguments, and the name that it has. It gives the names of the file.
Runner = Callable[[Path, Sequence[str], str], dict[str, Any]]


def add_command(commands: Any, name: str, help: str, description: str, examples: str, **options: Any) -> argparse.ArgumentParser:
    """A command more, whose ``--help`` shows ``description`` and ``examples`` as they stand."""
    texts = {"help": help, "description": description, "epilog": examples, "formatter_class": argparse.RawDescriptionHelpFormatter}
    return commands.add_parser(name, **texts, **options)  # type: ignore[no-any-return]
