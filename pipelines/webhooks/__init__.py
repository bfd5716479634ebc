"""The receiver of the vendors' webhooks, and the worker that brings deliveries into the lake."""
