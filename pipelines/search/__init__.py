"""The query language of the search box and of `--search`: parsed, checked, compiled to Polars."""
