"""Repairs: a classifier refitted so that its shortcuts help it less, without group labels."""
