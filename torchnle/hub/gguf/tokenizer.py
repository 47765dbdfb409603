"""The byte-level tokenizer described in a GGUF file, as tokenizer.json and tokenizer_config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def save(fields: dict[str, Any], folder: Path) -> None:
    """Write the tokenizer files.

    Args:
        fields: The GGUF file's metadata.
        folder: An existing folder.

    Raises:
        ValueError: If the tokenizer is not a byte-level BPE, or its splitting rule is not supported.
    """
    tokenizer = _tokenizer(fields)
    tokens = fields["tokenizer.ggml.tokens"]
    special = {name: fields.get(f"tokenizer.ggml.{key}_token_id") for name, key in _SPECIAL.items()}
    config = {f"{name}_token": tokens[index] for name, index in special.items() if index is not None}
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    if "tokenizer.chat_template" in fields:
        config["chat_template"] = fields["tokenizer.chat_template"]
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _tokenizer(fields: dict[str, Any]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models

    pre_tokenizer = _pre_tokenizer(fields)
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    kinds = list(zip(tokens, fields["tokenizer.ggml.token_type"], strict=True))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t, kind in kinds if kind == _CONTROL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, kind in kinds if kind == _USER_DEFINED])
    if fields.get("tokenizer.ggml.add_bos_token", False):
        _begin_with(tokenizer, tokens[fields["tokenizer.ggml.bos_token_id"]])
    return tokenizer


def _pre_tokenizer(fields: dict[str, Any]) -> PreTokenizer:
    """Build the pre-merge text splitter; "smollm" first sets every digit apart, or numbers merge wrongly."""
    from tokenizers import pre_tokenizers

    kind = (fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == ("gpt2", "gpt-2"):
        return byte_level
    if kind == ("gpt2", "smollm"):
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    raise ValueError(f"the GGUF file's tokenizer {kind} is not known; known: gpt2 split as gpt-2 or smollm.")


def _begin_with(tokenizer: Tokenizer, bos: str) -> None:
    from tokenizers import processors

    template = {"single": f"{bos}:0 $A:0", "pair": f"{bos}:0 $A:0 {bos}:1 $B:1"}
    special_tokens = [(bos, tokenizer.token_to_id(bos))]
    tokenizer.post_processor = processors.TemplateProcessing(**template, special_tokens=special_tokens)
