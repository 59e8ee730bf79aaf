"""`bench/ablations.py`: its plan and its table, and all of it in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sam2.data.without import NAMES

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def line(name: str, seed: int, real: float, generated: float = 0.5) -> dict[str, Any]:
    columns = ("box", "click_1", "click_3", "click_5")
    return {
        "run": name,
        "seed": seed,
        "real": dict.fromkeys(columns, real),
        "generated": dict.fromkeys(columns, generated),
    }


def test_runs_with_everything_come_first() -> None:
    import ablations

    plan = ablations.planned(ablations.parse(["--only", "blur", "texture", "--seeds", "2", "--repeats", "2"]))
    assert plan == [
        ("untrained", 0),
        ("everything", 0),
        ("everything", 1),
        *(("texture", 0), ("blur", 0), ("texture", 1), ("blur", 1)),
    ]
    whole = ablations.planned(ablations.parse([]))
    assert [name for name, _ in whole] == ["untrained", *["everything"] * 3, *NAMES]


def test_the_table_gives_differences_and_what_chance_does() -> None:
    import ablations

    lines = [line("everything", 0, 0.8), line("everything", 1, 0.82), line("blur", 0, 0.75)]
    text = ablations.table([*lines, line("untrained", 0, 0.7)]).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in text]
    assert cells[0][:4] == ["run", "runs", "real, box", "real, click 1"]
    assert cells[2][:3] == ["everything", "2", "81.0 ± 1.4"]
    assert cells[3][:3] == ["untrained", "1", "-11.0 ± 1.0"]
    assert cells[4][:3] == ["without blur", "1", "-6.0 ± 1.7"]
    assert cells[4][-1] == "+0.0 ± 0.0"
    assert len(cells) == 5
    assert "| 80.0 |" in ablations.table(lines[:1])
    with pytest.raises(ValueError, match="nothing to compare with"):
        ablations.table(lines[2:])


@pytest.mark.slow
def test_all_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("skimage")
    import ablations

    command = ["--miniature", "--only", "texture", "--seeds", "1", "--out", str(tmp_path)]
    assert ablations.main([*command, "--minutes", "0"]) == 0
    assert capsys.readouterr().out == "out of time before untrained, seed 0\n"
    assert ablations.main(command) == 0
    lines = ablations.read_lines(tmp_path)
    assert [one["run"] for one in lines] == ["untrained", "everything", "texture"]
    assert all(0 <= one[of][c] <= 1 for one in lines for of in ablations.SETS for c in ablations.COLUMNS)
    assert len({one["real"]["box"] for one in lines}) == 3
    pools = {p.parent.name: json.loads(p.read_text())["without"] for p in tmp_path.glob("pools/*/pool.json")}
    assert pools == {"held_out": [], "everything": [], "texture": ["texture"]}
    capsys.readouterr()
    assert ablations.main(command) == 0
    assert capsys.readouterr().out == ""
    assert ablations.main([*command, "--accumulate", "2"]) == 1
    assert "runs of other settings (accumulate)" in capsys.readouterr().err
    assert ablations.main(["--table", "--out", str(tmp_path)]) == 0
    assert "without texture" in capsys.readouterr().out
