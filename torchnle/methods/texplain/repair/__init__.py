"""Repairs: refit a classifier so that it depends less on its shortcuts, without group labels."""
