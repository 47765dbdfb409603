"""Translators: turn features into texts, and score texts on features."""
