"""Images made by gradients."""
