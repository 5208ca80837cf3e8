"""The operations that decide speed: plain PyTorch references, for any device and dtype."""
