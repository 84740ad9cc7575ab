"""Kinds of labels: what models of each learn, answer and are judged by."""
