"""TExplain: explaining learned visual features via frozen language models (Taghanaki et al. 2023)."""

from torchnle.language.english.content_words import words_and_kinds
from torchnle.methods.texplain.build import cross_attention_translator, texplain_translator
from torchnle.methods.texplain.words.compare import Shift, compare
from torchnle.methods.texplain.words.table import Word, WordTable

__all__ = [
    "Shift",
    "Word",
    "WordTable",
    "compare",
    "cross_attention_translator",
    "texplain_translator",
    "words_and_kinds",
]
