"""A net in phase TEST frozen into a shorter program, and what runs it."""
