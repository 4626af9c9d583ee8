"""Networks that see: classifiers of ImageNet whose layers serve as annotations."""
