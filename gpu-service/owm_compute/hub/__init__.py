"""The client of the edge: inputs in, files and results out, with one job's token."""
