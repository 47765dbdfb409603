"""The methods of the papers, one folder each."""
