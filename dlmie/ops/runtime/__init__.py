"""What all operations share: the kernel library, its cache, and the op that calls a kernel."""
