"""Attacks on language models: arrays in, arrays out.

This storey knows numpy, scipy and scikit-learn. It loads no model, opens no file and imports
nothing of `auditor` or `reports`. Every score follows one convention: higher means more likely
memorized.
"""
