"""Audits: find a classifier's shortcuts (spurious correlations) in words."""
