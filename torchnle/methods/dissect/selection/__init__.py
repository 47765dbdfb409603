"""Selection: choose the candidate label to which a unit responds most."""
