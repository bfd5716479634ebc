"""Checks what was signed, and shares no code with what signs."""
