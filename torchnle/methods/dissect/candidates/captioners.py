"""Captioners: describe each exemplar by a text (Describe-and-Dissect, step 2A)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.texts import check_texts
from torchnle.methods.dissect.exemplars.exemplar import Exemplar
from torchnle.methods.dissect.words import describe_rows, score_rows
from torchnle.translators.base import Translator


@runtime_checkable
class Captioner(Protocol):
    """Describes exemplars, one caption each; exemplars with a blank caption are ignored."""

    def __call__(self, exemplars: Sequence[Exemplar]) -> list[str]:
        """Caption every exemplar, in order."""
        ...


class TranslatorCaptioner:
    """Captions exemplars by a translator, from the evidence feature at their active locations.

    Args:
        translator: The map from text into features, DeViL, or any other that reads the layer.
        layer: The evidence layer's name.
        sure_above: Captions of less probable descriptions are blank.

    Example:
        >>> captioner = TranslatorCaptioner(translator, "layer")
        >>> captioner.rows(torch.ones(2, 6))
        ['sky', 'sky']
    """

    def __init__(self, translator: Translator, layer: str, *, sure_above: float = 0.0) -> None:
        self.translator, self.layer, self.sure_above = translator, layer, sure_above

    @property
    def fingerprint(self) -> str:
        """The identity of everything that its captions depend on."""
        return f"{self.translator.fingerprint} {self.layer} {self.sure_above}"

    def __call__(self, exemplars: Sequence[Exemplar]) -> list[str]:
        """Caption every exemplar.

        Raises:
            ValueError: If an exemplar has no evidence feature.
        """
        return self.rows(_evidence(exemplars))

    def rows(self, evidence: Float[Tensor, "n E"]) -> list[str]:
        """Caption evidence features without opening their pictures."""
        found = describe_rows(self.translator, self.layer, evidence)
        return [text if probability >= self.sure_above else "" for text, probability in found]


class BankCaptioner:
    """Chooses each exemplar's caption from a fixed bank (the ablation of section 4.4.1).

    Args:
        translator: Scores the bank on the evidence layer.
        layer: The evidence layer's name.
        bank: The phrases to choose from.

    Example:
        >>> BankCaptioner(translator, "layer", ["a cat", "sky"]).rows(torch.ones(1, 6))
        ['sky']
    """

    def __init__(self, translator: Translator, layer: str, bank: Sequence[str]) -> None:
        self.translator, self.layer, self.bank = translator, layer, check_texts(bank)

    @property
    def fingerprint(self) -> str:
        """The identity of everything that its captions depend on."""
        return f"{self.translator.fingerprint} {self.layer} {self.bank}"

    def __call__(self, exemplars: Sequence[Exemplar]) -> list[str]:
        """Caption every exemplar.

        Raises:
            ValueError: If an exemplar has no evidence feature.
        """
        return self.rows(_evidence(exemplars))

    def rows(self, evidence: Float[Tensor, "n E"]) -> list[str]:
        """Caption evidence features without opening their pictures."""
        best = score_rows(self.translator, self.layer, evidence, self.bank).argmax(dim=1)
        return [self.bank[i] for i in best.tolist()]


class ImageToText:
    """Captions pictures with any image-to-text model of transformers (the paper: BLIP, its BLIP-2 in A.4.3).

    Args:
        model: Such as `BlipForConditionalGeneration`; it must have `generate`.
        processor: Its processor.
        prompt: What the caption begins with, for models that take one.
        max_new_tokens: As the paper's code.
        min_length: As the paper's code.
        batch_size: Pictures at once.

    Example:
        >>> captioner = ImageToText(model, processor)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        prompt: str = "",
        max_new_tokens: int = 32,
        min_length: int = 5,
        batch_size: int = 10,
    ) -> None:
        self.model, self.processor, self.prompt = model.eval(), processor, prompt
        self.max_new_tokens, self.min_length, self.batch_size = max_new_tokens, min_length, batch_size

    @torch.no_grad()
    def __call__(self, exemplars: Sequence[Exemplar]) -> list[str]:
        """Caption every exemplar's picture, greedily."""
        found: list[str] = []
        for start in range(0, len(exemplars), self.batch_size):
            pictures = [each.picture for each in exemplars[start : start + self.batch_size]]
            text = {"text": [self.prompt] * len(pictures)} if self.prompt else {}
            inputs = self.processor(images=pictures, return_tensors="pt", **text).to(self.model.device)
            ids = self.model.generate(
                **inputs, max_new_tokens=self.max_new_tokens, min_length=self.min_length, do_sample=False
            )
            decoded = self.processor.batch_decode(ids, skip_special_tokens=True)
            found += [text.strip().removeprefix(self.prompt).strip() for text in decoded]
        return found


def _evidence(exemplars: Sequence[Exemplar]) -> Float[Tensor, "n E"]:
    rows = [each.evidence for each in exemplars if each.evidence is not None]
    if not rows or len(rows) < len(exemplars):
        raise ValueError(
            f"{len(exemplars) - len(rows)} of {len(exemplars)} exemplars have no evidence feature; probe "
            "with evidence=EvidenceLayer(...), or pass a captioner that reads pictures."
        )
    return torch.stack(rows)
