"""Rows shown elsewhere: Weights & Biases, TensorBoard. Rows are the truth; no result needs these."""
