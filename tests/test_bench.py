"""The guard of `make bench-check`, with few rounds and small sessions, and without valgrind: that takes a minute."""

from pathlib import Path

import msgspec
import pytest

from bench import check, counted


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "TURNS", 20)
    monkeypatch.setattr(counted, "SESSIONS", 120)


def _judged(folder: Path, floor: float, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and what is printed, where each case took so many times the floor before."""
    before = check.Baseline("another Python", {}, dict.fromkeys(_committed().floors, floor))
    file = folder / "baseline.json"
    file.write_bytes(msgspec.json.encode(before))
    return check.main(["--rounds", "1"], file), capsys.readouterr().out


def _committed() -> check.Baseline:
    return msgspec.json.decode(check.BASELINE.read_bytes(), type=check.Baseline)


def test_the_guard_passes_what_is_no_dearer_than_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = _judged(tmp_path, 1e6, capsys)
    assert code == 0
    assert printed.count("  ok\n") == len(_committed().floors)


def test_the_guard_stops_what_has_become_dearer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = _judged(tmp_path, 1e-6, capsys)
    assert code == 1
    assert printed.count("  worse\n") == len(_committed().floors)


def test_the_guard_stops_what_the_baseline_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert check._told(check.FLOORS, {"old": 1.0}, {"old": 1.0, "new": 1.0}) == 1
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]] == ["ok", "worse"]


def test_the_committed_baseline_has_both_measures_of_every_case(tmp_path: Path) -> None:
    names = [case.what for case in counted.cases(tmp_path)]
    assert [*_committed().instructions] == [*_committed().floors] == names


def test_the_instructions_of_a_part_are_read(tmp_path: Path) -> None:
    (tmp_path / "out.2").write_text("events: Ir\nsummary: 12\n\nfn=(1) main\n0 12\n\ntotals: 12\n")
    assert check._total(tmp_path / "out", 2) == 12
