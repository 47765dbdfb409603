"""The explorer: a local page on which a photograph is read by pointing at it."""
