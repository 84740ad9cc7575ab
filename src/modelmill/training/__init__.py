"""Fine-tuning and distillation. Needs the extra ``train``."""
