"""Faults put into whole trainings; `make faults` runs them, the tests do not."""
