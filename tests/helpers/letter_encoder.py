"""A toy sentence encoder: texts are alike that share letters."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts


class LetterEncoder(TextEncoder):
    reference, width, device = "letters", 26, torch.device("cpu")

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, texts, batch_size=64):
        checked = check_texts(texts)
        self.calls.append(checked)
        counts = [[text.lower().count(chr(97 + i)) for i in range(26)] for text in checked]
        return F.normalize(torch.tensor(counts).float(), dim=1)
