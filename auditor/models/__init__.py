"""Language models: the only code that imports transformers (training aside)."""
