"""The laws that every body keeps, as functions that measure by how much it breaks them."""
