"""The dashboard's pages: each tells in which order its panels stand."""
