"""Models, embedders and the fine-tuning loop; Ray Train and Ray Data are used here and nowhere above."""
