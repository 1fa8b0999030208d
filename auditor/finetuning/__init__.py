"""Training: from the testbed's small models on."""
