"""Sentences about evidence: proposed by a language model, selected by the map, without gradients."""
