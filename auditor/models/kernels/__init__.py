"""Faster forms of single operations of a network."""
