"""The table of what is being played."""
