"""Run `triton_cases.py` under Triton's interpreter and, where there is one, on the GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed: pip install 'torchnle[triton]' to run the kernels.",
)


def run_cases(**environment: str) -> None:
    """In a process of its own: Triton reads the environment when it is imported."""
    cases = Path(__file__).parents[1] / "helpers" / "scripts" / "triton_cases.py"
    command = [sys.executable, "-m", "pytest", str(cases), "-x", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


@needs_triton
def test_kernels_under_the_interpreter():
    run_cases(TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here.")
def test_kernels_on_the_gpu():
    run_cases(TRITON_INTERPRET="0")
