"""What a trained net is worth, and what it sees: scores of test sets, objects on pictures."""
