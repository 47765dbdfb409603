"""Quantised GGUF files, converted to folders that transformers loads."""
