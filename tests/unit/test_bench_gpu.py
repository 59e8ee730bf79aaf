"""`bench/gpu.py` in miniature: every case gives a figure or says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the peer, of the counters
def test_every_case_in_miniature(tmp_path: Path) -> None:
    import gpu

    out = tmp_path / "lines.jsonl"
    gpu.main(["--miniature", "--out", str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert not [line for line in lines if "failed" in line]
    assert {line["case"] for line in lines} == {"card", *gpu.CASES}
    for line in lines:
        assert "about" in line or "skipped" in line or len(line) > 4
    skipped = [line for line in lines if "skipped" in line]
    assert all("transformers" in line.get("package", "") or line.get("backend") == "aot" for line in skipped)
    ways = {line["way"] for line in lines if line["case"] in ("video", "compiled")}
    assert ways == {"eager", "static", "compiled"}
    (again,) = [line for line in lines if line.get("what") == "recompilations"]
    assert again["recompilations"] == 0
    alike = {line["what"]: line["mask_iou"] for line in lines if "mask_iou" in line}
    # in bfloat16, of small masks: 0.9875 where a batch rounds otherwise than its objects one by one
    assert alike["one by one"] > 0.98
    assert alike["fixed shapes"] > 0.98
    stages = [line for line in lines if line["case"] == "stages"]
    assert all(line["gflop"] >= 0 and line["gbytes_per_s"] > 0 for line in stages)


def test_the_plan_and_the_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    planned = gpu.planned(gpu.parse(["--miniature", "--only", "cold", "stages", "embed"]))
    assert planned == [("stages", "tiny"), ("embed", "tiny"), ("cold", "tiny")]
    wide = gpu.parse(["--device", "cpu", "--only", "cold", "stages", "embed", "--sizes", "small", "large"])
    assert gpu.planned(wide) == [
        ("stages", "small"),
        ("embed", "small"),
        ("embed", "large"),
        ("cold", "tiny"),
    ]
    assert (wide.objects, wide.size, wide.stream) == ([1, 16, 64], 1024, 3000)

    gpu.main(["--miniature", "--budget", "-1", "--only", "stages"])
    card, skipped = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert card["bf16_flops"] > 0
    assert skipped["case"] == "stages"
    assert "out of time" in skipped["skipped"]
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu.parse([])
        assert "--miniature" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:TF32")
def test_work_is_counted() -> None:
    import gpu_measure

    a, b = torch.randn(8, 16), torch.randn(16, 4)
    work = gpu_measure.work_of(lambda: (a @ b).view(4, 8).relu())
    assert work.flops == 2 * 8 * 16 * 4
    assert work.bytes == 4 * (8 * 16 + 16 * 4 + 8 * 4) + 4 * (32 + 32)


@pytest.mark.filterwarnings("ignore")
def test_without_the_peer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import gpu
    import peers

    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    gpu.main(["--miniature", "--only", "decode"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum("pip install 'transformers" in line.get("skipped", "") for line in lines) == 2
    assert sum("ours_s" in line for line in lines) == 2
    assert not [line for line in lines if "failed" in line]
    assert "transformers" not in [line.get("package") for line in lines if "ours_s" in line]
