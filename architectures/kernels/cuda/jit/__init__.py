"""Kernels in Triton's language: they import triton, so they are imported on a CUDA device alone."""
