"""The text tower of a CLIP as a text encoder: texts come out in the space of its images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle import hub
from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts
from torchnle.vision.running import evaluating, exclusive_use

#: What a text tower of transformers takes; tokenizers of other families give more.
_GIVEN = ("input_ids", "attention_mask", "position_ids")


class ClipText(TextEncoder):
    """The text tower of a whole CLIP of open_clip or transformers, which is not changed.

    Texts longer than the tower's context are cut, as the model's own tokenizer does.

    Args:
        model: A model with `encode_text` (open_clip, OpenAI's) or `get_text_features` (transformers: CLIP,
            SigLIP, ALIGN, ...).
        tokenizer: Its tokenizer: a function from texts to token ids for the first kind, a tokenizer or
            processor of transformers for the second.
        reference: Its reference for `from_pretrained`.

    Raises:
        TypeError: If the model has no text tower.

    Example:
        >>> class Letters(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.embedding = nn.Embedding(128, 4)
        ...     def encode_text(self, ids):
        ...         return self.embedding(ids).mean(1)
        >>> clip = ClipText(Letters(), lambda texts: torch.tensor([[ord(t[0])] for t in texts]))
        >>> clip.encode(["a cat", "a dog", "sky"]).shape, clip.width
        (torch.Size([3, 4]), 4)
    """

    def __init__(self, model: nn.Module, tokenizer: Any, *, reference: str = "") -> None:
        self._encode = text_function(model)
        self.model = model
        self.tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self.reference = reference
        self._width: int | None = None

    @property
    def scale(self) -> float:
        """The trained factor of cosines in CLIP's softmax; 100, its upper limit, if the model has none."""
        logarithm = getattr(self.model, "logit_scale", None)
        return float(logarithm.exp()) if isinstance(logarithm, torch.Tensor) else 100.0

    @classmethod
    def from_pretrained(cls, reference: str = "", *, device: torch.device | str | None = None) -> ClipText:
        """Load a whole CLIP by its reference, in float32.

        Args:
            reference: "open_clip:NAME@TAG", or a Hub id or local folder of transformers, which may have
                "transformers:" in front.
            device: The device of the model; None = the CPU.

        Raises:
            TypeError: If the model that is found has no text tower.
            ValueError: If open_clip has no such model or weights; if a folder lacks weights or a tokenizer,
                or needs code of its own, which is never run.
        """
        with hub.preserved_random_state():
            if reference.startswith("open_clip:"):
                model, tokenizer = _from_open_clip(reference.removeprefix("open_clip:"))
            else:
                model, tokenizer = _from_transformers(reference.removeprefix("transformers:"))
        return cls(model.to(device or "cpu"), tokenizer, reference=reference)

    @property
    def width(self) -> int:
        """The width of the space that texts and images share."""
        if self._width is None:
            self._width = self.encode(["a"]).shape[1]
        return self._width

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Float[Tensor, "T k"]:
        """Encode texts as unit vectors in float32, on the model's device, in the order given.

        Args:
            texts: At least one text, none blank; duplicates are fine.
            batch_size: How many texts go through the tower at a time.

        Raises:
            TypeError: If `texts` is one string, or holds something else than strings.
            ValueError: If a text is blank or has more than 10,000 characters, or `batch_size` is not
                positive.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; pass a positive number.")
        checked = check_texts(texts)
        with exclusive_use(self.model, self.tokenizer), evaluating(self.model):
            parts = [checked[i : i + batch_size] for i in range(0, len(checked), batch_size)]
            return torch.cat([F.normalize(self._features(part).float(), dim=1) for part in parts])

    def _features(self, texts: list[str]) -> Tensor:
        if not hasattr(self.model, "get_text_features"):
            return clip_vector(self._encode(self.tokenizer(texts).to(self.device)))
        config = self.model.config
        length = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        given = {name: tokens[name].to(self.device) for name in _GIVEN if name in tokens}
        return clip_vector(self._encode(**given))


def image_function(model: Any) -> Callable[..., Any]:
    """Find the bound method by which a CLIP encodes images.

    Raises:
        TypeError: If it has none.
    """
    return _method(model, "encode_image", "get_image_features")


def text_function(model: Any) -> Callable[..., Any]:
    """Find the bound method by which a CLIP encodes texts.

    Raises:
        TypeError: If it has none.

    Example:
        >>> text_function(nn.Linear(2, 2))
        Traceback (most recent call last):
        ...
        TypeError: Linear has neither 'encode_text' (open_clip) nor 'get_text_features' (transformers). Pass
        a whole CLIP, not one of its towers.
    """
    return _method(model, "encode_text", "get_text_features")


def clip_vector(output: Any) -> Tensor:
    """Take the vectors (N, k) from a CLIP's output: a tensor, or an output with a `pooler_output`."""
    vector: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return vector


def _method(model: Any, open_clip: str, transformers: str) -> Callable[..., Any]:
    found = getattr(model, open_clip, None) or getattr(model, transformers, None)
    if found is None:
        raise TypeError(
            f"{type(model).__name__} has neither '{open_clip}' (open_clip) nor '{transformers}' "
            "(transformers). Pass a whole CLIP, not one of its towers."
        )
    return found  # type: ignore[no-any-return]


def _from_open_clip(name: str) -> tuple[nn.Module, Any]:
    import open_clip

    model_name, _, tag = name.partition("@")
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if model_name not in open_clip.list_models() or tag not in ("", *tags):  # a folder may hold anything
        raise ValueError(
            f"open_clip has no model {model_name!r} with weights {tag!r}. Pass open_clip:NAME@TAG, with one "
            "of open_clip.list_pretrained()."
        )
    return open_clip.create_model(model_name, pretrained=tag or None), open_clip.get_tokenizer(model_name)


def _from_transformers(reference: str) -> tuple[nn.Module, Any]:
    from transformers import AutoModel, AutoTokenizer

    folder = hub.resolve(reference)
    model = hub.load_weights(AutoModel, folder, dtype=torch.float32)
    return model, hub.load_tokenizer(AutoTokenizer, folder)
