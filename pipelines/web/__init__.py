"""Guards of the local servers against web pages of others, and the way of our own requests."""
