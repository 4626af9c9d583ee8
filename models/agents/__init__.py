"""Agents that learn from rewards: tables, Q-networks and policies."""
