"""The same lines and records from two processes as from one: torchrun, Ray Data, probing."""
