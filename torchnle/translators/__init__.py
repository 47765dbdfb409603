"""Translators: features into words."""
