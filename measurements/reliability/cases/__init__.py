"""Situations that once came out wrong without a word, each with what is right, tried again."""
