"""The ways to make an attribution: from a classifier, captions, a CLIP, a backbone, a saved translator."""
