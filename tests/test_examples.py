"""Every example runs as a script, on the embedded default."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torchnle import backbones
from torchnle.evaluation.subject import attach

#: Those that need other packages have tests of their own (test_bridges).
_BRIDGES = ("faithfulness_elsewhere", "ray_describe")
EXAMPLES = sorted(
    path for path in (Path(__file__).parent.parent / "examples").glob("*.py") if path.stem not in _BRIDGES
)
#: What makes an example that takes minutes short: all of the way, at a size that learns nothing.
SHORT = {
    "shapes_backbone": ["--steps", "3", "--batch", "4", "--scenes", "12", "--unseen", "8", "--size", "64"]
}


def check_something_is_said(printed, folder):
    assert printed.strip()


def check_shapes(printed, folder):
    """A translator trained in seconds says which form stands in each scene it never saw."""
    pairs = re.findall(r"'an? \w+ (\w+) .*' -> '(.*)'", printed)
    assert len(pairs) == 3
    assert all(form in text.split() for form, text in pairs), pairs


def check_backbone(printed, folder):
    """The saved model comes back with its class names, and the translator fits it."""
    backbone = backbones.load(f"timm:local-dir:{folder}/backbone")
    assert backbone.class_names[:2] == ("red circle", "orange circle")
    lang = attach(backbone, str(folder / "translator"))
    assert [f.grid for f in lang.read(torch.zeros(1, 3, 64, 64))][-1] == (4, 4)
    assert len(re.findall(r"' -> '", printed)) == 6


CHECKS = {"train_on_shapes": check_shapes, "shapes_backbone": check_backbone}


@pytest.mark.real
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example(script, tmp_path):
    command = [sys.executable, str(script), "--output", str(tmp_path), *SHORT.get(script.stem, [])]
    out = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert out.returncode == 0, out.stderr[-2000:]
    CHECKS.get(script.stem, check_something_is_said)(out.stdout, tmp_path)
    assert list(tmp_path.glob("*.png"))
