"""The commands of `bench`, a file for each family. Only `bench.cli` imports them."""
