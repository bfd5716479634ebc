"""Targets for fuzzing, driven by Hypothesis in the tests and by a coverage-guided fuzzer."""
