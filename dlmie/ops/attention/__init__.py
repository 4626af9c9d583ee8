"""Recurrent cells with attention."""
