"""The text decoder: from an embedding of the sentence encoder to the prefix of a language model."""
