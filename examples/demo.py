"""Photographs into words: what an ImageNet classifier sees, whole and at each of its 49 locations."""

from __future__ import annotations

import argparse
from pathlib import Path

import skimage.data

from torchnle.cli import main

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
TEXTS = ("a cat", "a cup of coffee", "a rocket launch", "a motorcycle")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", default="demo_output", help="folder for the pictures")
output = parser.parse_args().output

folder = Path(skimage.data.__file__).parent
photos = [str(folder / name) for name in PHOTOS]
queries = [word for text in TEXTS for word in ("--text", text)]
raise SystemExit(
    main(["describe", *photos, "--locations", "--output", output])
    or main(["saliency", *photos, *queries, "--output", output])
)
