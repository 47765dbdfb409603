"""The frozen text models: language model, decoding, scoring, sentence encoder."""
