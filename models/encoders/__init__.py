"""Networks that see: image classifiers whose layers serve as annotations."""
