"""WordNet 3.0's nouns as a table: lemmas, senses and the hierarchy above them (licence: see LICENSE here)."""

from torchnle.language.english.wordnet.table import NounTable

__all__ = ["NounTable"]
