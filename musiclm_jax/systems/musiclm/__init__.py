"""MusicLM: three stages of tokens, from a text, a melody or a story to music."""
