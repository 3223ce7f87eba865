"""Training and fine-tuning of the models between BERT and T5, in JAX."""

__version__ = "0.1.0"
