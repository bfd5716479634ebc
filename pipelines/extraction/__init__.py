"""From the vendors to the lake: rounds of polling, and what they need."""
