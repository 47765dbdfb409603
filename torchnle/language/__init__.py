"""Frozen text models: language model, decoding, scoring, sentence encoder."""
