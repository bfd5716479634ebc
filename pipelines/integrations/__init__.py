"""One module a service: a file put here, with an INTEGRATION in it, is a new integration."""
