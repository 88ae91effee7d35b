"""A training as one self-contained HTML page: what the detector can do, and what it cannot."""
