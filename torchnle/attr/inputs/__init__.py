"""Inputs at the Captum door: pictures, texts, targets, and maps laid on images."""
