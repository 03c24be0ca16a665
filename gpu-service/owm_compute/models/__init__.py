"""The architectures that may run here, built from plain numbers and never from code in a repository."""
