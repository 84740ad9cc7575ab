"""Models: their files, and what runs them."""
