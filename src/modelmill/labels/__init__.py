"""Labels from rules: labelling functions vote, label models weigh the votes."""
