"""Sweeps on a Slurm cluster. Slurm is the engine: there is no queue and no daemon of our own."""
