"""TExplain: explaining learned visual features via frozen language models (Taghanaki et al. 2023)."""

from torchnle.language.english.content_words import words_and_kinds
from torchnle.methods.texplain.build import texplain_translator
from torchnle.methods.texplain.cross_attention.decoder import CrossAttentionDecoder
from torchnle.methods.texplain.cross_attention.translator import CrossAttentionTranslator
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.methods.texplain.words.compare import Shift, compare
from torchnle.methods.texplain.words.table import Word, WordTable

__all__ = [
    "CrossAttentionDecoder",
    "CrossAttentionTranslator",
    "Shift",
    "TExplainNetwork",
    "Word",
    "WordTable",
    "compare",
    "texplain_translator",
    "words_and_kinds",
]
