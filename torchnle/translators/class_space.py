"""The translator that needs no training data: texts are mapped into the space of a classifier's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from torchnle.description import Description
from torchnle.features import Features
from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts
from torchnle.running import evaluating
from torchnle.translators import concept_bank
from torchnle.translators.base import Translator
from torchnle.translators.class_embedding_mlp import ClassEmbeddingMLP
from torchnle.translators.class_weights import check_classifier, class_vectors
from torchnle.translators.configuration import check_keys
from torchnle.translators.kernel_ridge import KernelRidge
from torchnle.translators.phrase_ranking import Phrases
from torchnle.translators.rows import Rows, as_list, batches, gather
from torchnle.types import ScoreKind

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
#: How many phrases a description lists, and how many of them it says, where they score half of the best.
_LISTED, _SAID = 6, 3


class ClassSpaceTranslator(Translator):
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
        >>> translator.describe(Features(torch.tensor([[[2.0, 0.1]]]), "layer4"))[0].text
        'cats'
    """

    score_kind: ClassVar[ScoreKind] = "cosine"

    def __init__(
        self,
        regression: Regression,
        class_names: Sequence[str],
        text_encoder: TextEncoder,
        *,
        bank: Sequence[str] | None = None,
        layer: str = "",
    ) -> None:
        super().__init__()
        self.regression = regression
        self.class_names, self.layer = tuple(class_names), layer
        self.bank = None if bank is None else tuple(dict.fromkeys(check_texts(bank)))
        self.text_encoder = text_encoder
        self._phrases: Phrases | None = None
        self._latest: tuple[tuple[str, ...], Tensor] | None = None

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
    def base_models(self) -> tuple[str, ...]:
        """The reference of the sentence encoder."""
        return (self.text_encoder.reference,) if self.text_encoder.reference else ()

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
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the regression with empty tensors and load the sentence encoder that is named."""
        check_keys(config, cls._build, f"the configuration of {cls.__name__}")
        return cls._build(**config)

    @classmethod
    def _build(
        cls,
        *,
        method: str,
        regression: Mapping[str, Any],
        class_names: Sequence[str],
        text_encoder: str,
        bank: Sequence[str] | None = None,
        layer: str = "",
    ) -> Self:
        if method not in _REGRESSIONS:
            raise ValueError(f"the configuration names the method {method!r}; known: {list(_REGRESSIONS)}.")
        kind = _REGRESSIONS[method]
        check_keys(regression, kind, f"the configuration of {kind.__name__}")
        encoder = TextEncoder.from_pretrained(text_encoder)
        return cls(kind(**regression), class_names, encoder, bank=bank, layer=layer)

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Map texts into the classifier's space, as unit vectors.

        The vectors of new class names are the weights of new classes (Zero-shot NLE, section 4.1).

        Raises:
            TypeError: If `texts` is a single string.
            ValueError: If there are no texts or one is blank.
        """
        checked = tuple(check_texts(texts))
        if self._latest is None or self._latest[0] != checked or self._latest[1].device != self.device:
            with torch.inference_mode(False):  # what is kept must serve calls with gradients, too
                self._latest = checked, self._map(self.text_encoder.encode(checked))
        return self._latest[1]

    def score(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """The cosine of every row with every text, in the classifier's space; 0 for a row of zeros.

        Args:
            features: The features that the head reads, before or after pooling.
            texts: The texts, as they are: no prompt is put around them.
            joint: Has no meaning here: there is one layer.
            prior: Not offered: there is no language model whose prior could be subtracted.
            internal_batch_size: The most rows that are in work at once.

        Raises:
            TranslatorMismatchError: If the features are not as wide as the head's.
            TypeError: If `texts` is a single string.
            ValueError: If there are no rows or texts, one is blank, a feature is NaN or infinite, features
                and translator are on different devices, `prior` is asked for, or several layers jointly.
        """
        if prior:
            raise ValueError(
                "prior=True subtracts a text's log-probability under a language model; this translator "
                "scores by cosine and has none. Pass prior=False."
            )
        vectors = self.embed(texts)
        groups = self._gather(features, joint)
        return torch.cat([_unit(rows) @ vectors.T for rows in _parts(groups, internal_batch_size)])

    def describe(
        self,
        features: Features | Sequence[Features],
        *,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Name the phrases of the bank that have the highest cosine with every row (section 4.3).

        The text joins up to three of them; `phrases` lists up to six with their cosines, best first; none
        repeats the meaning of a better one. `unsure` where no cosine is positive.

        Args:
            features: As for `score`.
            joint: As for `score`.
            internal_batch_size: As for `score`.

        Raises:
            TranslatorMismatchError: As `score`.
            ValueError: As `score`.
        """
        phrases = self.phrases()
        found: list[Description] = []
        with torch.no_grad():
            for rows in _parts(self._gather(features, joint), internal_batch_size):
                best = phrases.best(_unit(rows), _LISTED)
                places = zip(rows.places, best, strict=True)
                found += [_description(rows.layer, place, listed) for place, listed in places]
        return found

    def phrases(self) -> Phrases:
        """The bank that `describe` chooses from; encoded once and kept."""
        if self._phrases is None or self._phrases.vectors.device != self.device:
            self._phrases = self._near_classes() if self.bank is None else self._encode(self.bank)
        return self._phrases

    def _near_classes(self) -> Phrases:
        """The class names, and what of the shipped bank is near to one of them."""
        names = tuple(dict.fromkeys(self.class_names))
        everything = self._encode(tuple(dict.fromkeys(names + concept_bank.phrases())))
        nearest = (everything.meanings @ everything.meanings[: len(names)].T).amax(dim=1)
        return everything.where(nearest >= _REACH)

    def _encode(self, texts: tuple[str, ...]) -> Phrases:
        meanings = self.text_encoder.encode(texts).to(self.device)
        return Phrases(texts, meanings, self._map(meanings))

    @torch.no_grad()
    def _map(self, meanings: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        with evaluating(self.regression):
            return F.normalize(self.regression(meanings.to(self.device)), dim=1)

    def _gather(self, features: Features | Sequence[Features], joint: bool) -> list[Rows]:
        given = as_list(features)
        if joint and len(given) > 1:
            raise ValueError(
                f"translator '{self.name}' reads the one layer in front of the classifier's head; "
                f"joint=True was given with {[f.layer for f in given]}. Pass one layer, or joint=False."
            )
        for each in given:
            if each.tokens.device != self.device:
                raise ValueError(
                    f"translator '{self.name}' is on {self.device}, the features of '{each.layer}' on "
                    f"{each.tokens.device}. Bring them to one device: translator.to(device)."
                )
        widths = {self.layer or "head": self.regression.config["width"]}
        return gather(given, widths, joint=False, tokens_per_row=1, translator=self.name)


def _parts(groups: Sequence[Rows], size: int | None) -> Iterator[Rows]:
    return (rows for batch in batches(groups, size) for rows in batch)


def _description(
    layer: str, place: tuple[int, tuple[int, int] | None], listed: Sequence[tuple[str, float]]
) -> Description:
    (image, location), (_, best) = place, listed[0]
    said = [phrase for phrase, score in listed[:_SAID] if score >= best / 2]
    return Description(
        "; ".join(said) or listed[0][0],
        best,
        score_kind="cosine",
        layer=layer,
        image=image,
        location=location,
        phrases=tuple(listed),
        unsure=best <= 0,
    )


def _unit(rows: Rows) -> Float[Tensor, "R D"]:
    (tokens,) = rows.tokens.values()
    return F.normalize(tokens.flatten(0, 1).float(), dim=1)
