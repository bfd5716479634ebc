"""The dashboard's pages: each arranges its panels."""
