"""The parts that connectors are built from."""
