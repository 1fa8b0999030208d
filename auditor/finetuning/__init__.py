"""Fine-tuning of causal language models, and memorization measured during training."""
