"""How many files of torchnle a reader follows for one call: ceilings, held by the command that counts."""

import json
import sys

import pytest

from measurements import call_path
from measurements.__main__ import main

#: The most files that each call may pass after the first.
CEILINGS = {"describe": 12, "describe, where='all'": 14, "saliency": 15}


@pytest.fixture(scope="module")
def found():
    return call_path.measure()["calls"]


@pytest.mark.parametrize(("call", "most"), CEILINGS.items())
def test_calls_pass_few_files(found, call, most):
    assert found[call]["files"] == len(found[call]["passed"]) <= most


def test_the_first_call_finds_the_layout_and_later_ones_do_not(found):
    assert found["describe"]["first_call"] > found["describe"]["files"]
    assert "vision/arrangements.py" not in found["describe"]["passed"]


def test_the_count_is_of_what_runs():
    def call():
        from torchnle.vision.inputs import channels_last
        from torchnle.vision.layouts import Arrangement

        channels_last(call_path.torch.zeros(1, 2))
        return str(Arrangement("ND")), channels_last(call_path.torch.zeros(1, 2))

    call()  # imported
    before = sys.getprofile()
    assert call_path.files_passed(call) == [
        "vision/inputs.py",
        "vision/layouts.py",
        "vision/inputs.py",
    ]
    assert sys.getprofile() is before


def test_the_command_writes_both_files(tmp_path, capsys):
    assert main(["call-path", "--output", str(tmp_path)]) == 0
    data = json.loads((tmp_path / "call_path.json").read_text())
    assert set(data["calls"]) == set(CEILINGS)
    assert (tmp_path / "call_path.md").read_text().strip() in capsys.readouterr().out
