"""Figures: SVG in pages, PNG and SVG as files."""
