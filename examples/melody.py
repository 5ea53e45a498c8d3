"""A tune beside a prompt: `melody` is an array, or the path of a recording."""

import numpy as np

import musiclm_jax
from musiclm_jax import audio as audio_lib

model = musiclm_jax.load()
rate = model.sample_rate_hz
# Five tones of a second each, as a synthesizer would hum them.
hertz = np.repeat([262.0, 294.0, 330.0, 294.0, 262.0], rate)
tune = 0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / rate)
audio = model.generate('a waltz on accordion', melody=tune, seconds=5)
audio_lib.write('waltz.wav', audio, rate)
