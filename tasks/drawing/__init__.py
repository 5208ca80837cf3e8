"""Images that tasks draw themselves."""
