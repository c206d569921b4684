"""Answers of a trained model for files: classes, label and value maps, and features."""
