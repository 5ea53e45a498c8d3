"""Is the music nearer to its own prompt than to others? MuLan's cosines say so.

`musiclm evaluate quick` does it for many prompts, with intervals.
"""

import numpy as np

import musiclm_jax

PROMPTS = ['a jig on a fiddle', 'a slow air on a harp']
model = musiclm_jax.load()
mulan = model.bundle.get('mulan')
clips = np.stack([model.generate(prompt, seconds=10) for prompt in PROMPTS])
cosines = np.asarray(mulan.embed_audio(clips)) @ np.asarray(
    mulan.embed_text(PROMPTS)).T
own = np.eye(len(PROMPTS), dtype=bool)
print(f'own {cosines[own].mean():.3f}, others {cosines[~own].mean():.3f}')
