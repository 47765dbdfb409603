"""Other labelling methods for units, on the same probing record."""
