"""Sound second by second, while it is made."""

import time

import musiclm_jax

model = musiclm_jax.load()
start = time.monotonic()
for chunk in model.stream('a slow air on a flute', seconds=10):
  # A player would take it here: [n] float32 at model.sample_rate_hz.
  print(f'after {time.monotonic() - start:4.1f} s: {len(chunk)} samples')
