"""Operations in C for the CPU: compiled at first use, checked against the reference, or left."""
