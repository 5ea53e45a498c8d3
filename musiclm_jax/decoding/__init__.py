"""Drawing tokens: the cached decoder, sampling, guidance. Knows no music."""
