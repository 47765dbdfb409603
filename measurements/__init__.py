"""The code behind the tables of the docs and the shipped weights; not part of the wheel."""
