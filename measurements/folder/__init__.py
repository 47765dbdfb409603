"""Folders of large photographs: rate, memory, kills, broken files; and start-up of the command."""
