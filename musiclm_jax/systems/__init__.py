"""Whole systems: what they condition on, in which order, and how they are asked."""
