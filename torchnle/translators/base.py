"""The one abstract class: a translator turns features into words and scores words on features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle import hub
from torchnle.description import Description
from torchnle.features import Features
from torchnle.language.ranking import Ranking, check_k
from torchnle.translators import configuration, serialization
from torchnle.translators.model_card import model_card
from torchnle.types import ScoreKind

# A type variable and not Self, which beartype cannot check in a method.
AnyTranslator = TypeVar("AnyTranslator", bound="Translator")


class Translator(nn.Module, ABC):
    """Turns features into words (`describe`) and scores given words on features (`score`).

    Rows: every token of every `Features` is one row. Several `Features` are read one after another
    (rows: layer by layer, image by image, location by location), or, with ``joint=True``, together: they
    must then agree in batch and locations, and one row holds all layers' tokens of one location.

    A translator is saved as a folder of three files: config.json, model.safetensors and README.md, its model
    card. Frozen text models are named there by reference and never stored.

    Attributes:
        layers: The dotted names of the layers it was made for; none where it does not name them.
        name: What messages call it: its class, or the reference it was loaded from.
        card: Facts for the model card, plain values by name: training data, results, "license" (an
            identifier of the Hub), "tags", "datasets", "language". Saved with the translator.
    """

    #: What `score` returns.
    score_kind: ClassVar[ScoreKind]

    layers: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__
        self.card: dict[str, Any] = {}

    @abstractmethod
    def describe(
        self,
        features: Features | Sequence[Features],
        *,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Put every row into words; one `Description` a row, in row order."""

    @abstractmethod
    def score(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Score every text on every row, raw, in float32; differentiable in the features."""

    def score_places(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Score every text so that rows compare, as a saliency map shows them; by default `score`."""
        return self.score(features, texts, joint=joint, prior=prior, internal_batch_size=internal_batch_size)

    def text_lengths(self, texts: Sequence[str]) -> Float[Tensor, "texts"]:
        """Of how many tokens' log-probabilities each text's score is the sum.

        Raises:
            ValueError: If scores are no such sums, as cosines are not.
        """
        raise ValueError(
            f"translator '{self.name}' scores by {self.score_kind}, which does not add up over tokens; do "
            "not normalise by length."
        )

    @torch.no_grad()
    def top_texts(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        k: int,
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Ranking:
        """Find the `k` texts of highest score on every row; see `score`."""
        check_k(k)
        scores = self.score(
            features, texts, joint=joint, prior=prior, internal_batch_size=internal_batch_size
        )
        return Ranking.of(scores, k)

    @torch.no_grad()
    def top_rows(
        self,
        features: Features | Sequence[Features],
        text: str,
        k: int,
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Ranking:
        """Find the `k` rows of highest score for a text; see `score_places`."""
        check_k(k)
        scores = self.score_places(
            features, [text], joint=joint, prior=prior, internal_batch_size=internal_batch_size
        )
        return Ranking.of(scores[:, 0], k)

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything but the tensors that `from_config` needs, as plain values that JSON keeps."""

    @classmethod
    @abstractmethod
    def from_config(cls: type[AnyTranslator], config: Mapping[str, Any]) -> AnyTranslator:
        """Build a translator whose tensors are then loaded.

        Raises:
            ValueError: If a key of `config` is unknown or missing (`configuration.check_keys`).
        """

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of the models that this translator works with, for its model card."""
        return ()

    @classmethod
    def from_pretrained(
        cls: type[AnyTranslator],
        reference: str | Path,
        *,
        revision: str | None = None,
        device: torch.device | str | None = None,
    ) -> AnyTranslator:
        """Load a translator, in evaluation mode.

        ``Translator.from_pretrained`` finds the class in the configuration, among torchnle's own; called on a
        subclass, it gives that subclass or refuses.

        Args:
            reference: "org/name" on the Hub, a local folder, or the name of a translator that ships with
                torchnle.
            revision: A branch, tag or commit on the Hub; the same as "org/name@revision".
            device: Where to put it; by default where its text model loads.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the class, a key of the configuration or a tensor is missing, unknown or of another
                shape, or the weights are no safetensors file.
        """
        folder = hub.resolve(configuration.pinned(str(reference), revision))
        saved = serialization.read(folder)
        with hub.kept_random_state():
            translator = configuration.find_class(saved.translator, cls).from_config(saved.config)
        serialization.load_tensors(translator, saved.tensors, folder)
        translator.name, translator.card = str(reference), saved.card
        translator.eval()
        return translator if device is None else translator.to(device)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json, model.safetensors and README.md, all of them or none.

        Args:
            folder: A new or empty folder, or one that holds a saved translator and nothing else, which is
                then replaced.

        Returns:
            The folder.

        Raises:
            FileExistsError: If the folder holds anything else.
            ValueError: If the configuration or the card holds a value that JSON does not know.
        """
        saved = serialization.Saved(
            configuration.class_path(type(self)), self.config, self.state_dict(), self.card
        )
        return serialization.write(Path(folder), saved, model_card(self))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        commit_message: str = "Upload translator",
        token: str | None = None,
    ) -> str:
        """Save the translator into a repository of the Hugging Face Hub, created where it does not exist.

        Args:
            repo_id: "org/name".
            revision: The branch; by default the main one.
            private: Whether a repository created here is private; by default as the organisation says.
            commit_message: What the commit says.
            token: The access token; by default the one that is logged in.

        Returns:
            The address of the commit.

        Raises:
            ValueError: As `save_pretrained`.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with TemporaryDirectory() as scratch, hub.hidden_secrets():
            folder = self.save_pretrained(Path(scratch) / "translator")
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
            )
        return str(commit.commit_url)
