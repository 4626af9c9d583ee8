"""A task of its own with two updates in each step: the smallest GAN, on one number."""
