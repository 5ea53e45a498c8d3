"""A prompt to a WAV file."""

import musiclm_jax
from musiclm_jax import audio as audio_lib

model = musiclm_jax.load()
audio = model.generate('a lively irish jig on fiddle', seconds=10, seed=3)
audio_lib.write('jig.wav', audio, model.sample_rate_hz)
print(f'jig.wav: {len(audio) / model.sample_rate_hz:.1f} s')
