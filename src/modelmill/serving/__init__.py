"""Model bundles, and what scores rows with them."""
