"""Many texts in one forward of a language model: packing, prefix trees, cached search."""
