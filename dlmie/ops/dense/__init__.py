"""Matrix products, affine maps, sums and embeddings."""
