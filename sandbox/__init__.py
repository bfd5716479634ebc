"""The vendors' APIs, simulated over one fictional company: a new file is a new service."""
