"""Timings of whole tasks against other libraries; `make bench` runs them."""
