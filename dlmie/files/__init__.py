"""Files that dlmie writes and reads: whole or not at all, checked before they are believed."""
