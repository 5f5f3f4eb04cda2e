"""The page on errors shows what its programs give."""

from pathlib import Path

import pytest

from docs.shown import programs, text_of, written

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "errors.md").read_text("utf-8")


@pytest.mark.parametrize(("program", "text"), list(programs(PAGE)), ids=[text.partition(":")[0] for _, text in programs(PAGE)])
def test_a_program_of_the_page_gives_the_text_below_it(program, text, tmp_path):
    assert text_of(program, tmp_path) == text


def test_the_page_shows_an_error_of_each_kind():
    shown = {text.partition(":")[0] for _, text in programs(PAGE)}
    assert {"ShapeError", "FeedError", "LinAlgError", "ExecutionError", "NumericsError", "GradientError"} <= shown
    assert {"MemoryLimitError", "FileFormatError", "MissingExtraError"} <= shown


def test_texts_are_written_below_programs():
    page = "a\n\n```python\nprint(1 + 1)\n```\n\n```text\n?\n```\n\n```python\nx = 1\n```\n"
    assert written(page) == page.replace("?", "2")
