"""Other ways to label units, from the same probing record."""
