"""Symbolic operations that PyTensor lacks, one folder for each family."""
