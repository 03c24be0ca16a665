"""Where a job's work is done: a backend takes a request and gives back its last message."""
