"""The sections of the report, a file each: from what is known of a training to HTML."""
