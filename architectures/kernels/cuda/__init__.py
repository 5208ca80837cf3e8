"""Operations on CUDA devices: each runs once on the device and is checked there, or is left."""
