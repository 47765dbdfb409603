"""Audits: shortcuts that a classifier takes, found by words."""
