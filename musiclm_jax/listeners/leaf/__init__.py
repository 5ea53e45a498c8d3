"""LEAF: a learnable front end and a tagger on it, trained by our loop."""
