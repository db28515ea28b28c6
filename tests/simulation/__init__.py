"""One seed, one whole life of an archive: a world, faults, syncs, outages, crashes; and then the truth."""
