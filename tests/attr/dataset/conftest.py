"""A tiny classifier with its preprocessing, and a folder of pictures one of which is broken."""

import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from PIL import Image
from zero_shot_world import NAMES, pictures

from torchnle import LanguageAttribution
from torchnle.backbones import Preprocess

PREPROCESS = Preprocess(size=8, mean=0.0, std=255.0)


@pytest.fixture
def lang():
    made = LanguageAttribution.from_classifier(
        conv_net(), NAMES, example=pictures(2), encoder=LetterEncoder()
    )
    made.preprocess = PREPROCESS
    return made


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(11):
        pixels = torch.randint(0, 256, (9, 12, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(root / f"{number:02}.png")
    (root / "04.png").write_bytes(b"no picture")
    return root
