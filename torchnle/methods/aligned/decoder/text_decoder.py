"""The text decoder: a sentence embedding becomes a prefix after which the language model writes the sentence.

It is trained on text alone, once for a pair of sentence encoder and language model, without images: any
vector in the encoder's space can be decoded by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self

from torchnle import hub
from torchnle.language import decoding, scoring
from torchnle.language.decoding import Decoded
from torchnle.language.model import LanguageModel
from torchnle.translators import kinds, serialization
from torchnle.translators.config_values import Count, Number, Reference, Size, check_config, loading
from torchnle.translators.model_card import code
from torchnle.translators.pretrained import Pretrained
from torchnle.translators.tensors import load_tensors

#: The shipped decoder: from all-MiniLM-L6-v2's embeddings to texts by SmolLM2-135M.
DECODER = "decoder-minilm-smollm2"
#: The frame: what comes before and after the sentence's vectors by default, and what ends a text. A language
#: model that sees "Again: X" and then "Again:" says X, so that the vectors only need to be read as words.
OPENING, PROMPT, STOP = "Again:", "\nAgain:", "\n"


class PrefixFromSentence(nn.Module):
    """A two-layer residual network from a standardised sentence embedding to prefix vectors.

    The prefix is an opening, the same for every sentence, and P vectors of the sentence. Both are initialised
    at the embeddings of real words, to which the network's output is added: from a random initialisation the
    loss does not fall for hundreds of steps.

    Args:
        width: The width k of the sentence embedding.
        lm_width: The width E of the language model's embeddings.
        opening_length: The number O of vectors of the opening.
        prefix_length: The number P of vectors of the sentence.
        hidden: The width of the hidden layers.

    Example:
        >>> PrefixFromSentence(4, 8, opening_length=1, prefix_length=2, hidden=16)(torch.randn(3, 4)).shape
        torch.Size([3, 3, 8])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, width: int, lm_width: int, *, opening_length: int = 2, prefix_length: int = 8, hidden: int = 960
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.enter = nn.Linear(width, hidden)
        self.deepen = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU())
        self.norm = nn.LayerNorm(hidden)
        self.leave = nn.Linear(hidden, prefix_length * lm_width)
        self.opening = nn.Parameter(torch.zeros(opening_length, lm_width))
        self.start = nn.Parameter(torch.zeros(prefix_length, lm_width))

    @classmethod
    def from_pretrained(cls, reference: str | Path) -> Self:
        """Load the network of a saved `TextDecoder` alone, in float32, without its language model.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: As `TextDecoder.from_pretrained`.
        """
        folder = hub.resolve(reference)
        saved = serialization.read(folder)
        kinds.find(saved.kind, TextDecoder)
        with loading(folder / serialization.CONFIG, saved.longest_side):
            check_config(saved.config, TextDecoder._build, "the configuration of TextDecoder")
        sizes = ("width", "lm_width", "opening_length", "prefix_length", "hidden")
        network = cls(**{name: saved.config[name] for name in sizes})
        tensors = {name.removeprefix("network."): tensor for name, tensor in saved.tensors.items()}
        load_tensors(network, tensors, folder / serialization.WEIGHTS)
        return network.float().eval()

    @torch.no_grad()
    def set_start(
        self,
        opening: Float[Tensor, "O E"],
        words: Float[Tensor, "P E"],
        embeddings: Float[Tensor, "texts k"],
    ) -> None:
        """Initialise the prefix at the embeddings of words, and the standardisation at a corpus's moments.

        Args:
            opening: The embeddings of the opening's words.
            words: The embeddings at which the sentence's vectors start.
            embeddings: The sentence embeddings of the corpus.
        """
        self.opening.copy_(opening)
        self.start.copy_(words)
        self.mean.copy_(embeddings.mean(dim=0))
        self.std.copy_(embeddings.std(dim=0))
        self.leave.weight.normal_(std=float(words.std()) / self.leave.in_features**0.5)
        self.leave.bias.zero_()

    def forward(self, embeddings: Float[Tensor, "R k"]) -> Float[Tensor, "R O+P E"]:
        """Map sentence embeddings to prefixes."""
        standardised = (embeddings.to(self.mean.dtype) - self.mean) / self.std
        hidden = F.gelu(self.enter(standardised))
        hidden = hidden + self.deepen(hidden)
        change: Tensor = self.leave(self.norm(hidden)).unflatten(-1, tuple(self.start.shape))
        opening = self.opening.expand(len(embeddings), -1, -1)
        return torch.cat([opening, self.start + change], dim=1)


class TextDecoder(Pretrained):
    """Decodes sentence embeddings to texts with a frozen language model.

    Args:
        network: Maps embeddings to prefixes.
        language_model: The frozen language model, saved by its reference only.
        encoder: The reference of the sentence encoder whose embeddings are read.
        prompt: The text after the prefix.
        stop: The string that ends a text.
        max_new_tokens: The largest number of tokens of a text.
        reference: Its reference for `from_pretrained`, which a translator's configuration stores.

    Example:
        >>> decoder = TextDecoder.from_pretrained()  # doctest: +SKIP
        >>> decoder.decode(encoder.encode(["a hen on grass"])).texts  # doctest: +SKIP
        ['a hen on grass']
    """

    frozen_models: ClassVar[tuple[str, ...]] = ("language_model",)

    language_model: LanguageModel

    def __init__(
        self,
        network: PrefixFromSentence,
        language_model: LanguageModel,
        *,
        encoder: str,
        prompt: str = PROMPT,
        stop: str = STOP,
        max_new_tokens: int = 24,
        reference: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self.language_model = language_model
        self.encoder = encoder
        self.prompt, self.stop = prompt, stop
        self.max_new_tokens = max_new_tokens
        self.reference = reference

    @property
    def device(self) -> torch.device:
        """The device of the network; `to` keeps the language model there too."""
        return self.network.mean.device

    @property
    def width(self) -> int:
        """The width k of the embeddings that are read."""
        return self.network.mean.shape[0]

    @torch.no_grad()
    def decode(self, embeddings: Float[Tensor, "R k"], *, internal_batch_size: int | None = None) -> Decoded:
        """Decode every embedding to a text, greedily.

        Args:
            embeddings: Sentence embeddings, or vectors mapped into their space; normalised to unit length
                here.
            internal_batch_size: The largest number of rows in the language model at once.

        Returns:
            One text per row.

        Raises:
            ValueError: If they have another width than the encoder's.
        """
        decoded = decoding.greedy(
            self.language_model,
            self.prefixes(embeddings),
            prompt=self.prompt,
            stop=self.stop,
            max_new_tokens=self.max_new_tokens,
            internal_batch_size=internal_batch_size,
        )
        return _stripped(decoded)

    @torch.no_grad()
    def sample(
        self,
        embeddings: Float[Tensor, "R k"],
        n: int,
        *,
        temperature: float = 0.7,
        seed: int = 0,
        internal_batch_size: int | None = None,
    ) -> Decoded:
        """Draw `n` texts for every embedding by nucleus sampling: R * n texts, those of a row together.

        Raises:
            ValueError: As `decode`; if `n` or `temperature` is not positive.
        """
        drawn = decoding.sample(
            self.language_model,
            self.prefixes(embeddings),
            n,
            temperature=temperature,
            generator=torch.Generator().manual_seed(seed),
            prompt=self.prompt,
            stop=self.stop,
            max_new_tokens=self.max_new_tokens,
            internal_batch_size=internal_batch_size,
        )
        return _stripped(drawn)

    def log_prob(
        self,
        embeddings: Float[Tensor, "R k"],
        texts: Sequence[str],
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "R T"]:
        """Compute the log-probability of every text given every embedding, in nats.

        Args:
            embeddings: As `decode`.
            texts: The texts.
            prior: Subtract each text's log-probability under the language model alone.
            internal_batch_size: The largest number of rows in the language model at once.

        Raises:
            ValueError: As `decode`, or if a text is blank.
        """
        spaced = [f" {text.strip()}" for text in texts]
        scores = scoring.log_prob(
            self.language_model,
            self.prefixes(embeddings),
            spaced,
            prompt=self.prompt,
            internal_batch_size=internal_batch_size,
        )
        return scores - scoring.prior(self.language_model, spaced, prompt=self.prompt) if prior else scores

    def prefixes(self, embeddings: Float[Tensor, "R k"]) -> Float[Tensor, "R O+P E"]:
        """Compute the prefixes of embeddings, which are normalised to unit length first.

        Raises:
            ValueError: If they have another width than the encoder's.
        """
        if embeddings.shape[-1] != self.width:
            raise ValueError(
                f"the decoder reads embeddings of width {self.width} (of {self.encoder}); these have width "
                f"{embeddings.shape[-1]}. Use the encoder that the decoder was trained for."
            )
        prefixes: Tensor = self.network(F.normalize(embeddings, dim=-1))
        return prefixes

    @property
    def config(self) -> dict[str, Any]:
        """The settings that `from_config` takes."""
        length, lm_width = self.network.start.shape
        opening_length = len(self.network.opening)
        return {
            "width": self.width,
            "lm_width": lm_width,
            "opening_length": opening_length,
            "prefix_length": length,
            "hidden": self.network.enter.out_features,
            "language_model": self.language_model.reference,
            "encoder": self.encoder,
            "prompt": self.prompt,
            "stop": self.stop,
            "max_new_tokens": self.max_new_tokens,
        }

    @classmethod
    def _build(
        cls,
        *,
        width: Size,
        lm_width: Size,
        opening_length: Count,
        prefix_length: Size,
        hidden: Size,
        language_model: Reference,
        encoder: str,
        prompt: str,
        stop: str,
        max_new_tokens: Number,
    ) -> Self:
        network = PrefixFromSentence(
            width, lm_width, opening_length=opening_length, prefix_length=prefix_length, hidden=hidden
        )
        model = LanguageModel.from_pretrained(language_model)
        return cls(network, model, encoder=encoder, prompt=prompt, stop=stop, max_new_tokens=max_new_tokens)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = torch.bfloat16) -> Path:
        """Write config.json, model.safetensors and README.md, all of them or none: see `Pretrained`."""
        return super().save_pretrained(folder, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        reference: str | Path = DECODER,
        *,
        revision: str | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Load a decoder, in evaluation mode and float32: see `Pretrained`."""
        return super().from_pretrained(reference, revision=revision, device=device).float()

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of the language model and of the sentence encoder whose embeddings it reads."""
        return tuple(dict.fromkeys(filter(None, [*super().base_models, self.encoder])))

    @property
    def summary(self) -> str:
        """A sentence on the encoder and the language model, for its model card."""
        encoder, language_model = code(self.encoder), code(self.language_model.reference)
        return (
            f"A `{type(self).__name__}` of torchnle: it turns sentence embeddings of {encoder} into prefixes "
            f"that make {language_model} say the sentence. Trained on text alone."
        )

    @property
    def usage(self) -> str:
        """Python code for its model card that decodes the embedding of a sentence."""
        return (
            "from torchnle.language.text_encoder import TextEncoder\n"
            f"from {TextDecoder.__module__} import TextDecoder\n\n"
            'decoder = TextDecoder.from_pretrained("<this repository or folder>")\n'
            f"encoder = TextEncoder.from_pretrained({self.encoder!r})\n"
            'decoder.decode(encoder.encode(["a hen on grass"])).texts'
        )


def _stripped(decoded: Decoded) -> Decoded:
    return Decoded([text.strip() for text in decoded.texts], decoded.ids, decoded.log_probs)
