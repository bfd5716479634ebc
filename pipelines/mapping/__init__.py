"""From the vendors' records to rows of `events`, and from those to OCSF."""
