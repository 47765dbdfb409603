"""The tokens of a text are those that it has in the whole."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from torchnle.language.spelling import Spelling

WORDS = ["a", "cat", "the", "x", ".", "0", "3", "A", "b"]


def metaspace(scheme):
    """As Llama 2 ("always"), Mistral ("first") and byte-level models ("never") put a marker before words."""
    pieces = [*WORDS, *(f"\u2581{word}" for word in WORDS), "\u2581"]
    vocabulary = [(piece, -1.0 - len(piece) * 0.01) for piece in pieces]
    unigram = Tokenizer(models.Unigram([("<unk>", -20.0), *vocabulary], unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    unigram.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>")


def prepending():
    pieces = {"<unk>": 0, "\u2581": 1, "a": 2, "\u2581a": 3}
    bpe = Tokenizer(models.BPE(pieces, [("\u2581", "a")], unk_token="<unk>"))
    marked = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    bpe.normalizer = normalizers.Sequence(marked)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>")


TOKENIZERS = {scheme: metaspace(scheme) for scheme in ("always", "first", "never")} | {
    "prepend": prepending()
}


def whole(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("prompt", ["a", "a a", "a ", "a  "])
@pytest.mark.parametrize("text", [" a", " a a"])
def test_a_prompt_and_a_text_are_the_whole(name, prompt, text):
    tokenizer = TOKENIZERS[name]
    spelling = Spelling(tokenizer)
    text = text.lstrip() if prompt.endswith(" ") else text
    (rest,) = spelling.rows([text], prompt)
    assert spelling.prompt(prompt) + rest == whole(tokenizer, prompt + text)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_text_that_begins_with_a_blank_follows_something(name):
    tokenizer = TOKENIZERS[name]
    (rest,) = Spelling(tokenizer).rows([" a"])
    assert whole(tokenizer, "a") + rest == whole(tokenizer, "a a")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_text_after_nothing_has_its_own_tokens(name):
    assert Spelling(TOKENIZERS[name]).rows(["a a"]) == [whole(TOKENIZERS[name], "a a")]
