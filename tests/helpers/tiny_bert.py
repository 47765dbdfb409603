"""A tiny BERT decoder with cross-attention, built in code, and one that has learned to read codes."""

from __future__ import annotations

from functools import lru_cache

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertLMHeadModel, PreTrainedTokenizerFast

from torchnle.methods.texplain.cross_attention.decoder import CrossAttentionDecoder

WORDS = ["[CLS]", "[SEP]", "a", "cat", "dog", "red", "door", "the", "of", "grass"]
CAPTIONS = ("a cat", "the red dog", "door of grass", "grass")
WIDTH = 16


def config(**changes) -> BertConfig:
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        initializer_range=0.3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **{"is_decoder": True, "add_cross_attention": True, **changes},
    )


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[CLS]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, cls_token="[CLS]", sep_token="[SEP]")


def tiny_decoder(reference: str = "") -> CrossAttentionDecoder:
    torch.manual_seed(5)
    return CrossAttentionDecoder(BertLMHeadModel(config()).eval(), tokenizer(), reference=reference)


@lru_cache(maxsize=1)
def codes() -> torch.Tensor:
    """Two vectors for each caption, (4, 2, WIDTH)."""
    return torch.randn(4, 2, WIDTH, generator=torch.Generator().manual_seed(6))


@lru_cache(maxsize=1)
def _trained() -> BertLMHeadModel:
    """A decoder that says the caption of the code it attends to: a language model trained before."""
    decoder = tiny_decoder()
    decoder.model.requires_grad_(True)
    optimiser = torch.optim.Adam(decoder.model.parameters(), lr=1e-2)
    ids = [[*row, decoder.end_id] for row in decoder.tokenize(CAPTIONS)]
    for _ in range(60):
        optimiser.zero_grad()
        (-decoder.log_probs(codes(), ids).sum()).backward()
        optimiser.step()
    return decoder.model


def trained_decoder() -> CrossAttentionDecoder:
    return CrossAttentionDecoder(_trained(), tokenizer())
