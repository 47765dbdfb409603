"""Sampling from a language model: nucleus sampling, and sampling without replacement."""
