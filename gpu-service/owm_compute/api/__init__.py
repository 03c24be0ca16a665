"""The HTTP side, which never imports torch: a native crash in a job can't take it down."""
