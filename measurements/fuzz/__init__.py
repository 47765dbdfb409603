"""Seeded cases over public calls, caption files, pictures, recipes and saved folders, each judged."""
