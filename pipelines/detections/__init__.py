"""Detection rules in the Sigma format, evaluated over raw records and over events; alerts."""
