"""A detector behind HTTP: a page to try it, pictures to JSON, health and metrics."""
