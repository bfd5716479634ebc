"""The forms in which receivers take alerts; each module knows one kind."""
