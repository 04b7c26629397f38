"""Active fine-tuning: embed, select, label, train, evaluate, and go round again."""
