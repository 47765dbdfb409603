"""Greedy texts and log-probabilities of tiny models of every architecture, beside their own plain forward."""
