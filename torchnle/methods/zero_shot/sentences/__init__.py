"""Sentences about evidence, written by a language model and chosen by the map, without gradients."""
