"""Prompts that change over time; `musiclm generate --story` reads the same text."""

import musiclm_jax
from musiclm_jax import audio as audio_lib
from musiclm_jax.systems.musiclm import story

PARTS = story.parse("""
- at: 0:00
  prompt: a slow air on a harp
- at: 0:05
  prompt: a lively reel on fiddles
""")
model = musiclm_jax.load()
audio = model.generate(story=PARTS, seconds=10)
audio_lib.write('story.wav', audio, model.sample_rate_hz)
