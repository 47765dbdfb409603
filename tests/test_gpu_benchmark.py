"""The GPU script as far as it goes on a CPU: every step, without Captum, and what it does when one fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import common, gpu

ROOT = Path(__file__).parents[1]

SCRIPT = """
import sys
from pathlib import Path

class NoCaptum:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "captum":
            raise ImportError("captum is not installed")

sys.meta_path.insert(0, NoCaptum())
from benchmarks import common, gpu
common.RESULTS = Path(sys.argv[1])
gpu.main(["--device", "cpu", "--rounds", "1"])
"""


def test_every_step_runs_where_captum_is_not_installed(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "kernels", check=True, capture_output=True)
    jobs = json.loads((tmp_path / "gpu_tried_on_cpu.json").read_text())["jobs"]
    names = [job["job"] for job in jobs]
    for start in ("correctness: linear_lse_mu", "head forward and", "attention of", "greedy", "scores of"):
        assert any(name.startswith(start) for name in names), start
    assert names.index("ceilings") == 0
    assert names[-1].startswith("training step")
    assert all(ratio["ratio"] > 0 for job in jobs for ratio in job.get("ratios", ()))


@pytest.fixture
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return tmp_path


def test_nothing_is_timed_where_a_kernel_is_wrong(quick, monkeypatch, capsys):
    exact = gpu.reference.linear_lse
    monkeypatch.setattr(gpu.reference, "linear_lse", lambda *a, **k: tuple(t + 1 for t in exact(*a, **k)))
    with pytest.raises(gpu.WrongResultError, match=r"linear_lse in torch.float32 is off by 1, more than"):
        gpu.main(["correctness", "attention", "--device", "cpu"])
    assert "attention of" not in capsys.readouterr().out
    assert not list(quick.iterdir())


def test_steps_that_may_take_too_long_are_left_out(quick, capsys):
    gpu.main(["ceilings", "captions", "--device", "cpu", "--minutes", "0.5"])
    output = capsys.readouterr().out
    assert "TFLOP/s" in output
    assert "captions is left out" in output
    assert sum(gpu.STEPS.values()) < 600


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_that_there_is_no_gpu(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "there is no GPU; --device cpu tries the script" in capsys.readouterr().err
