"""What a search does between two calls of its model."""
