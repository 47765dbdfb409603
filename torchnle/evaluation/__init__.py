"""Measurements of a translator: scenes, photographs, class maps, annotated units."""
