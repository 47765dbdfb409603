"""A BERT decoder with cross-attention: the language model of the paper."""
