"""Composed waterbirds: shortcuts found by words, and the repair of the classifier, against known groups."""
