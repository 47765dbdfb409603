"""The translator that needs no training data: texts are mapped into the space of a classifier's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from torchnle.language.text_encoder import TextEncoder
from torchnle.running import evaluating
from torchnle.translators import concept_bank
from torchnle.translators.class_embedding_mlp import ClassEmbeddingMLP
from torchnle.translators.class_weights import check_classifier, class_vectors
from torchnle.translators.config_values import Reference, check_config
from torchnle.translators.cosine import CosineTranslator
from torchnle.translators.kernel_ridge import KernelRidge
from torchnle.translators.phrase_ranking import Phrases

Regression: TypeAlias = KernelRidge | ClassEmbeddingMLP
_REGRESSIONS: dict[str, type[KernelRidge] | type[ClassEmbeddingMLP]] = {
    "ridge": KernelRidge,
    "mlp": ClassEmbeddingMLP,
}
#: What the paper makes of a class name.
PROMPT = "an image of a {}"
#: A shipped phrase is used where its text has at least this cosine with the name of some class; of what lies
#: further off the classes taught the regression nothing.
_REACH = 0.55


class ClassSpaceTranslator(CosineTranslator):
    """Scores texts on a classifier's features, and describes these, from its class weights and names alone.

    The class weights are the vectors of the features' space whose meaning is known. A regression from the
    sentence embedding of a class's name to its weights (Zero-shot NLE, section 3.1) maps any text there, and
    the cosine with a feature says how much of the text is in it. Where the head follows a mean over places,
    it reads every place alike, so the same cosine holds place by place.

    Args:
        regression: Maps unit text vectors into the classifier's space.
        class_names: The names of the classes.
        text_encoder: The frozen sentence encoder; it is held outside the module and never saved.
        bank: The phrases that `describe` chooses from; None = the class names, and the shipped concept bank
            as far as it is near to them.
        layer: The name of the layer that the head reads, for messages.

    Example:
        >>> class Letters(TextEncoder):  # a toy: texts are alike that share letters
        ...     reference, width, device = "letters", 26, torch.device("cpu")
        ...     def __init__(self): pass
        ...     def encode(self, texts, batch_size=64):
        ...         counts = [[text.count(chr(97 + i)) for i in range(26)] for text in texts]
        ...         return F.normalize(torch.tensor(counts).float(), dim=1)
        >>> weight = torch.tensor([[3.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
        >>> names, bank = ["cat", "mug", "bee"], ["cats", "gum"]
        >>> translator = ClassSpaceTranslator.fit(weight, names, Letters(), bank=bank)
        >>> from torchnle.features import Features
        >>> translator.describe(Features(torch.tensor([[[2.0, 0.1]]]), "layer4"))[0].text
        'cats'
    """

    def __init__(
        self,
        regression: Regression,
        class_names: Sequence[str],
        text_encoder: TextEncoder,
        *,
        bank: Sequence[str] | None = None,
        layer: str = "",
    ) -> None:
        super().__init__(text_encoder, bank=bank, layer=layer)
        self.regression, self.class_names = regression, tuple(class_names)

    @classmethod
    def fit(
        cls,
        weight: Tensor,
        class_names: Sequence[str],
        text_encoder: TextEncoder | None = None,
        *,
        method: Literal["ridge", "mlp"] = "ridge",
        prompt: str = PROMPT,
        bank: Sequence[str] | None = None,
        layer: str = "",
        **options: Any,
    ) -> Self:
        """Learn the map from the classifier's own weights.

        Args:
            weight: The head's matrix, (classes C, width), any floating dtype.
            class_names: One a row; two classes may share a name.
            text_encoder: The sentence encoder; None = the embedded default.
            method: "ridge" = kernel ridge regression, in closed form; "mlp" = the paper's network, trained.
            prompt: What is made of a class name, with "{}" for the name.
            bank: As for the class.
            layer: As for the class.
            options: For the regression's own `fit`: `scale` and `penalties`, or `soft_dropout`, `epochs`,
                `learning_rate` and `seed`.

        Raises:
            TypeError: If the names are one string or no strings, or an option is not known.
            ValueError: If weights and names do not fit (`check_classifier`), the method is not known or the
                prompt has no place for the name.
        """
        names = check_classifier(weight, class_names)
        if method not in _REGRESSIONS:
            raise ValueError(f"method={method!r}; pass one of {', '.join(map(repr, _REGRESSIONS))}.")
        if "{}" not in prompt:
            raise ValueError(f"prompt={prompt!r} has no '{{}}' for the class name.")
        encoder = TextEncoder.from_pretrained() if text_encoder is None else text_encoder
        texts = encoder.encode([prompt.replace("{}", name) for name in names]).to(weight.device)
        regression = _REGRESSIONS[method].fit(texts, class_vectors(weight), **options)
        return cls(regression, names, encoder, bank=bank, layer=layer).eval()

    @property
    def device(self) -> torch.device:
        """Where the regression is."""
        device: torch.device = next(iter(self.regression.state_dict().values())).device
        return device

    @property
    def width(self) -> int:
        """The width of the classifier's features."""
        return int(self.regression.config["width"])

    @property
    def config(self) -> dict[str, Any]:
        """The regression's sizes, the names, the bank and the sentence encoder's reference.

        Raises:
            ValueError: If the sentence encoder has no reference.
        """
        if not self.text_encoder.reference:
            raise ValueError(
                "the sentence encoder has no reference, so a saved translator could not name it. Load it "
                "with TextEncoder.from_pretrained, or build it with reference=..."
            )
        return {
            "method": next(name for name, kind in _REGRESSIONS.items() if type(self.regression) is kind),
            "regression": self.regression.config,
            "class_names": list(self.class_names),
            "text_encoder": self.text_encoder.reference,
            "bank": None if self.bank is None else list(self.bank),
            "layer": self.layer,
        }

    @classmethod
    def _build(
        cls,
        *,
        method: Literal["ridge", "mlp"],
        regression: Mapping[str, Any],
        class_names: Sequence[str],
        text_encoder: Reference,
        bank: Sequence[str] | None = None,
        layer: str = "",
    ) -> Self:
        kind = _REGRESSIONS[method]
        check_config(regression, kind, f"the configuration of {kind.__name__}")
        encoder = TextEncoder.from_pretrained(text_encoder)
        return cls(kind(**regression), class_names, encoder, bank=bank, layer=layer)

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Map texts into the classifier's space, as unit vectors.

        The vectors of new class names are the weights of new classes (Zero-shot NLE, section 4.1).

        Raises:
            TypeError: If `texts` is a single string.
            ValueError: If there are no texts or one is blank.
        """
        return super().embed(texts)

    def _map(self, texts: tuple[str, ...]) -> Float[Tensor, "T D"]:
        return self._regress(self.text_encoder.encode(texts))

    def _phrases(self) -> Phrases:
        """The bank; by default the class names, and what of the shipped bank is near to one of them."""
        if self.bank is not None:
            return self._encode(self.bank)
        names = tuple(dict.fromkeys(self.class_names))
        everything = self._encode(tuple(dict.fromkeys(names + concept_bank.phrases())))
        nearest = (everything.meanings @ everything.meanings[: len(names)].T).amax(dim=1)
        return everything.where(nearest >= _REACH)

    def _encode(self, texts: tuple[str, ...]) -> Phrases:
        meanings = self.text_encoder.encode(texts).to(self.device)
        return Phrases(texts, meanings, self._regress(meanings))

    @torch.no_grad()
    def _regress(self, meanings: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        with evaluating(self.regression):
            return F.normalize(self.regression(meanings.to(self.device)), dim=1)
