"""Inputs of the attribution classes: pictures, texts and targets; and maps enlarged to the inputs' size."""
