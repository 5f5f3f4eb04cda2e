"""Every picture of the documents, made from the code each time the documents are built.

A page shows ``pictures/toy.svg`` by its name here. To add a picture, write a function that draws it into the path it
is given, and list it in PICTURES. A picture that cannot be made stops the build. By hand: ``python -m
docs.make_pictures``.
"""

from collections.abc import Callable
from pathlib import Path

PICTURES: dict[str, Callable[[Path], object]] = {}


def make_all(folder: Path) -> None:
    """Draw every picture into ``folder``, and remove from it what is no longer listed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name not in PICTURES:
            old.unlink()
    for name, draw in PICTURES.items():
        draw(folder / name)
        if not (folder / name).is_file():
            raise RuntimeError(f"docs/make_pictures.py: {draw.__name__} made no {name}")


if __name__ == "__main__":
    make_all(Path(__file__).resolve().parent / "pictures")
