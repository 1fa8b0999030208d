"""Options of every command, checked before anything runs."""
