"""From audio or text to tokens: our own models, and other people's."""
