"""Algorithms: the three families and what they share."""
