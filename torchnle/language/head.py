"""The parts of a causal language model of transformers: its body, and its head as one linear layer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: How far the model's own logits may lie from the linear layer's, as a share of the largest: bfloat16
#: rounding reaches about 0.01, a missed scale or a different head is far beyond.
_TOLERANCE = 0.03

#: Logits are made as large as this, so that what squashes large ones shows, whatever it is called.
_LARGE = 300.0

#: What transformers' models raise when they are given embeddings, a cache or a mask that they do not know.
UNABLE = (TypeError, AttributeError, IndexError, KeyError, RuntimeError, NotImplementedError)

#: What configurations call the most positions that there are, and the most that a layer looks back on.
_LIMITS = ("max_position_embeddings", "max_seq_len", "max_sequence_length")
_WINDOWS = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size")
_ORIGINAL = "original_max_position_embeddings"


def body(model: PreTrainedModel) -> nn.Module:
    """Return the model without its head, so that no logits are computed.

    `base_model` is what transformers calls it, but some text-only classes name a prefix that they do not
    have and get themselves back.
    """
    base = model.base_model
    return cast(nn.Module, model.model if base is model else base)


def check_whole_model(model: object) -> None:
    """Refuse an object that is no causal language model of transformers, or has unmerged adapters.

    Raises:
        TypeError: If it is refused; the message says why.

    Example:
        >>> check_whole_model("gpt2")
        Traceback (most recent call last):
        ...
        TypeError: model is a str; pass a ...ForCausalLM model of transformers, or load one by its name with
        LanguageModel.from_pretrained.
    """
    from transformers import PreTrainedModel

    if isinstance(model, PreTrainedModel):
        return
    name = type(model).__name__
    if hasattr(model, "merge_and_unload"):
        raise TypeError(
            f"model is a {name}, whose adapters are not part of its layers. Merge them first: "
            "LanguageModel(model.merge_and_unload(), tokenizer)."
        )
    raise TypeError(
        f"model is a {name}; pass a ...ForCausalLM model of transformers, or load one by its name with "
        "LanguageModel.from_pretrained."
    )


@dataclass(frozen=True)
class Head:
    """The layer and the factor with which ``logits = layer(scale * hidden)``.

    Args:
        layer: The model's own output layer.
        scale: The factor that Cohere and Granite models put on their logits, else 1.
    """

    layer: nn.Linear
    scale: float

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        """Find a model's linear head, and check that it reproduces the model's own logits.

        Raises:
            ValueError: If there is no linear head, or the logits are not a linear function of the last
                hidden state.
        """
        name, layer = type(model).__name__, model.get_output_embeddings()
        if not isinstance(layer, nn.Linear):
            raise ValueError(
                f"{name} has no linear language-model head; pass a model of a ...ForCausalLM class."
            )
        config = model.config.get_text_config()
        cap = getattr(config, "final_logit_softcapping", None)
        if cap is not None:
            raise ValueError(
                f"{name} squashes its logits with a tanh (final_logit_softcapping={cap}), which torchnle "
                "does not compute. Use a language model without it: GPT-2, OPT, Llama, Qwen, Gemma 3."
            )
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        head = cls(layer, float(scale))
        try:
            head._check_against(model)
        except UNABLE as error:
            raise ValueError(f"{name} cannot read embeddings: {type(error).__name__}: {error}") from error
        return head

    @torch.no_grad()
    def _check_against(self, model: PreTrainedModel) -> None:
        token = torch.zeros(1, 1, dtype=torch.long, device=self.layer.weight.device)
        embedding = model.get_input_embeddings()(token)
        hidden = body(model)(inputs_embeds=embedding, use_cache=False).last_hidden_state
        ours = self.layer(hidden * self.scale).float()
        factor = _LARGE / float(ours.abs().max().clamp_min(1e-6))
        enlarging = self.layer.register_forward_hook(lambda _, __, output: output * factor)
        try:
            theirs = model(inputs_embeds=embedding, use_cache=False).logits.float() / factor
        finally:
            enlarging.remove()
        if theirs.shape != ours.shape or (theirs - ours).abs().max() > _TOLERANCE * theirs.abs().max():
            raise ValueError(
                f"the logits of {type(model).__name__} are not its output layer on its last hidden state; "
                "torchnle cannot score words with it. Use a GPT-2, OPT, Llama, Qwen or Gemma 3 model."
            )


def most_positions(config: Any, *, plain: bool) -> int | None:
    """Return the number of positions that every layer of a configuration can attend to; None = no limit.

    Sliding-window layers attend to the window only. Beyond its original length, "longrope" changes the
    factors of all positions, those in a cache too.

    Args:
        config: A configuration of transformers.
        plain: Whether the model is read without a cache (`LanguageModel.plain`).

    Example:
        >>> from transformers import GPT2Config, MistralConfig
        >>> most_positions(GPT2Config(), plain=False), most_positions(MistralConfig(), plain=True)
        (1024, 131072)
    """
    names = _LIMITS if plain else (*_LIMITS, *_WINDOWS)
    limits = [getattr(config, name, None) for name in names]
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if rope.get("rope_type", rope.get("type")) == "longrope":
        limits += [rope.get(_ORIGINAL), getattr(config, _ORIGINAL, None)]
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)


def cache_name(body: nn.Module) -> str:
    """Return the name of the argument for a cache in a model's forward, which transformers has changed."""
    return "cache" if "cache" in inspect.signature(body.forward).parameters else "past_key_values"
