"""What in an image an answer depends on."""
