"""Labels from rules: labelling functions that vote, and models of how far each of them is to be believed."""
