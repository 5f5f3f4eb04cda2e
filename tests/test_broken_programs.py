"""The table of broken programs: each error names the line that is to blame, and says what is wrong."""

import pytest

from tests.broken_programs import PROGRAMS, main


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"{program.kind}-{program.name}")
def test_the_line_to_blame_is_named(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program.faults() == []


def test_there_are_more_than_a_hundred_of_all_kinds():
    kinds = {program.kind for program in PROGRAMS}
    assert len(PROGRAMS) > 100
    assert {"shape", "dtype", "feed", "nan", "mixed graphs", "custom op", "dead gradient", "memory", "file", "extra", "device"} <= kinds
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS)


def test_a_wrong_line_or_word_is_found(capsys):
    program = PROGRAMS[0]
    for changed in ({"line": program.line - 1}, {"words": ("nonsense",)}, {"error": KeyError}):
        assert type(program)(**{**program.__dict__, **changed}).faults() != []
    assert main([program.name]) == 0
    assert "matmul: the inner sizes differ, 784 and 748" in capsys.readouterr().out
    assert main(["nothing"]) == 1
