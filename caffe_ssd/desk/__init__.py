"""Where a command meets its user: flags, log lines, listings, progress bars, exit statuses."""
