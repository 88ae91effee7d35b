"""Feeds damaged files to everything that reads a user's file: `make fuzz`.

A case must end in a CaffeError or be accepted: no other exception, no signal, no more than
`limits.CPU_SECONDS` of computing, no more than `limits.MEMORY` of memory. What ever failed stands
in `corpus/KIND/` and runs with the tests.
"""
