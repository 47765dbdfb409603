"""Pages: the report of a dissection, and the blind rating page."""
