"""Where real data comes from: one file per source, each with its origin, licence and checksum."""
