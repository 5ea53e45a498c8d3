"""A recording, and what comes after it."""

import musiclm_jax
from musiclm_jax import audio as audio_lib

model = musiclm_jax.load()
# Any path of a recording would do as well as these samples.
before = model.generate('a jig on a tin whistle', seconds=3)
audio = model.generate('a jig on a tin whistle', continue_from=before, seconds=4)
# The recording as the codec renders it, then four seconds that are new.
audio_lib.write('longer.wav', audio, model.sample_rate_hz)
print(f'{len(audio) / model.sample_rate_hz:.0f} s')
