"""What runs compiled functions: C kernels on processors, or JAX, which also runs on GPUs."""
