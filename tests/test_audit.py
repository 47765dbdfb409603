"""While shards, photographs, recipes and models are read, no program starts and no code of theirs runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_reading_hostile_files_starts_nothing_and_runs_nothing(tmp_path):
    here = Path(__file__).parent / "helpers"
    search = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, str(here / "scripts" / "audited.py"), str(tmp_path)],
        input="y\n" * 1000,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": search, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["seen"] == []
    assert found["marks"] == []
    refused = [each for each in found["outcomes"] if each != "read"]
    assert len(refused) > 60
    assert sum("never runs code" in each for each in refused) >= 10
    assert not any("trust_remote_code" in each for each in refused)
    kinds = " ".join(event.split()[0] for event in found["control"])  # the hook sees what it should
    assert "subprocess.Popen" in kinds
    assert "exec" in kinds
    assert "y/N" not in finished.stdout + finished.stderr
