"""Fine-tuning, distillation, and heads on a trunk."""
