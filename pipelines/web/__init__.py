"""ASGI middleware that protects the local servers from web pages of others."""
