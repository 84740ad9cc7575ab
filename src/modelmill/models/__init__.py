"""Models: their files, and what runs them."""

import logging

# transformers imports torchao where it is installed. That warns of each kernel of its wheel that this build
# of PyTorch has no use for, and of its own use of PyTorch: every step's log began with lines that nobody can
# act on.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
