"""Operations are counted in whatever order the kernels and PyTorch's counter are imported."""

import subprocess
import sys

import pytest

_COUNT = """
with FlopCounterMode(display=False) as counter:
    torch.ops.torchnle.linear_lse(torch.ones(2, 3), torch.ones(5, 3), None, False, "torch")
print(counter.get_total_flops())
"""
_COUNTER = "from torch.utils.flop_counter import FlopCounterMode"


def run(code):
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.split()


@pytest.mark.parametrize("imports", [[_COUNTER, "import torchnle.ops"], ["import torchnle.ops", _COUNTER]])
def test_in_either_order(imports):
    assert run("\n".join(["import torch", *imports, _COUNT])) == ["60"]


def test_describing_imports_no_counter_and_no_triton():
    code = "import sys, torchnle.ops, torchnle.methods.aligned.fit\n"
    code += "print(*(n for n in ('triton', 'torch.utils.flop_counter') if n in sys.modules))"
    assert run(code) == []
