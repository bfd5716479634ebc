"""The simulated services, one module each."""
