"""Sentence encoders: what they leave out is said, what they do not compute is refused."""

from __future__ import annotations

from typing import Any

import torch

from measurements.reading.tiny_models import tokenizer
from measurements.reliability.cases.case import (
    Found,
    Topic,
    equal,
    first_wrong,
    folder,
    near,
    refused,
    warned,
)

TOPIC = Topic("sentence encoders")
case = TOPIC.case
_BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def encoder(words: Any = None, **more: Any) -> Any:
    """Build a tiny sentence encoder with random weights."""
    import transformers

    from torchnle.language.text_encoder import TextEncoder

    torch.manual_seed(0)
    config = transformers.BertConfig(**{**_BERT, "vocab_size": 48, "max_position_embeddings": 512, **more})
    words = words or tokenizer()
    words.pad_token = "w2"
    return TextEncoder(transformers.BertModel(config).eval(), words, reference="x")


@case(
    "'\u732b' and '\U0001f408', which the tokenizer reads as the same unknown token",
    "a warning that names them",
    "transformers",
)
def unknown_words() -> Found:
    """Words outside the vocabulary."""
    return warned(lambda: encoder().encode(["w3 \u732b", "w3 \U0001f408"]), "know|unknown")


@case("900 words and 512 positions, no length stated", "cut at 512, with a warning", "transformers")
def long_texts() -> Found:
    """A text longer than the encoder's positions."""
    return warned(lambda: encoder().encode([" ".join(["w5"] * 900)]), "512 tokens")


def _sentence_folder(directory: Any, pooling: dict[str, Any], *more: str, prompts: Any = None) -> Any:
    import json

    own = encoder()
    own.model.save_pretrained(directory)
    own.tokenizer.save_pretrained(directory)
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, **pooling})
    )
    kinds = ["Transformer", "Pooling", *more]
    modules = [
        {"idx": n, "path": ("" if n == 0 else f"{n}_{k}"), "type": f"sentence_transformers.models.{k}"}
        for n, k in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    if prompts:
        (directory / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return own


@case('"pooling_mode": "mean" or "cls", as later versions write', "understood", "transformers")
def later_poolings() -> Found:
    """The later format of sentence-transformers."""
    from torchnle.language.text_encoder import TextEncoder

    tried = []
    for named in ("mean", "cls"):
        with folder() as directory:
            _sentence_folder(directory, {"pooling_mode": named})
            tried.append((named, equal(TextEncoder.from_pretrained(str(directory)).pooling, named)))
    return first_wrong(tried)


@case(
    "a Dense module; max pooling; a default prompt; a default prompt that is not there",
    "refused, or computed",
    "transformers",
)
def later_modules() -> Found:
    """Modules and prompts of sentence-transformers."""
    from torchnle.language.text_encoder import TextEncoder

    tried = []
    with folder() as directory:
        _sentence_folder(directory, {"pooling_mode": "mean"}, "Dense")
        tried.append(("Dense", refused(lambda: TextEncoder.from_pretrained(str(directory)), "Dense")))
    with folder() as directory:
        _sentence_folder(directory, {"pooling_mode": "max"})
        tried.append(("max", refused(lambda: TextEncoder.from_pretrained(str(directory)), "not supported")))
    with folder() as directory:
        stated = {"prompts": {"query": "w7 "}, "default_prompt_name": "query"}
        own = _sentence_folder(directory, {"pooling_mode": "mean"}, prompts=stated)
        found = TextEncoder.from_pretrained(str(directory)).encode(["w3"])
        tried.append(("prompt", near(found, own.encode(["w7 w3"]), 1e-5)))
    with folder() as directory:
        _sentence_folder(
            directory, {"pooling_mode": "mean"}, prompts=stated | {"default_prompt_name": "none"}
        )
        tried.append(
            (
                "no such prompt",
                refused(lambda: TextEncoder.from_pretrained(str(directory)), "none of its prompts"),
            )
        )
    return first_wrong(tried)
