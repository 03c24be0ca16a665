"""Data sets: a declarative `task.json` and CSV files, both checked cell by cell."""
