"""Processes killed at random moments while they save, train, cache, fetch and describe."""
