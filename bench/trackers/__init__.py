"""Rows shown elsewhere: Weights & Biases, TensorBoard. No result needs them."""
