"""What architectures are built from: bodies and modules that are not registered themselves."""
