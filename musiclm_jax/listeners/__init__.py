"""Pretrained judges that know nothing of our models."""
