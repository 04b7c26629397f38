"""Logging runs and rounds to MLflow and TensorBoard, which nothing depends on: their failures are told, not raised."""
