"""The k-means and RVQ that we fit to foreign models, stored with the cache.

  <cache>/fits/<component>.json          key, what was fitted to, report
  <cache>/fits/<component>.safetensors   its arrays

The key sums up everything the fit follows from: the checkpoint's configuration
and weights, the options, the corpus.
"""

import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.tokens import cache as cache_lib

FOLDER = 'fits'


def key(**parts: Any) -> str:
  """16 hex digits of JSON values."""
  canonical = json.dumps(parts, sort_keys=True).encode()
  return hashlib.sha256(canonical).hexdigest()[:16]


def digest(arrays: dict[str, np.ndarray]) -> str:
  """16 hex digits of named arrays."""
  made = hashlib.sha256()
  for name in sorted(arrays):
    value = np.ascontiguousarray(arrays[name])
    made.update(f'{name}{value.shape}{value.dtype}'.encode() + value.tobytes())
  return made.hexdigest()[:16]


def refuse_other(cache_dir: str | pathlib.Path, component: str,
                 found_key: str) -> None:
  """UserError where the cache was begun with another one; before any work."""
  for name in (cache_lib.FINGERPRINT, cache_lib.PLAN):
    path = pathlib.Path(cache_dir) / name
    if not path.is_file():
      continue
    about = files.read_json(
        path, 'add --replace to make the cache anew, or choose another --cache')
    stored = about.get('bundle', {}).get(component, 'none')
    if stored.split('-')[0] != found_key:
      raise errors.UserError(
          f'{cache_dir} holds a cache of other parts (bundle.{component}: '
          f'{stored}, expected {found_key}); add --replace to make it anew, or '
          f'choose another --cache.')


def load(cache_dir: str | pathlib.Path, component: str, wanted_key: str
         ) -> dict[str, np.ndarray] | None:
  """The stored arrays, or None where there are none of this key."""
  from safetensors import numpy as safetensors  # pylint: disable=g-import-not-at-top
  from safetensors import SafetensorError  # pylint: disable=g-import-not-at-top
  folder = pathlib.Path(cache_dir) / FOLDER
  about, arrays = folder / f'{component}.json', folder / (
      f'{component}.safetensors')
  if not (about.is_file() and arrays.is_file()):
    return None
  try:
    if files.read_json(about, '').get('key') != wanted_key:
      return None
    return safetensors.load_file(arrays)
  except (errors.UserError, SafetensorError):
    return None  # damaged: it is fitted again


def save(cache_dir: str | pathlib.Path, component: str, made_key: str,
         arrays: dict[str, np.ndarray], report: dict) -> None:
  """Writes a fit; the file that names its key comes last."""
  from safetensors import numpy as safetensors  # pylint: disable=g-import-not-at-top
  folder = pathlib.Path(cache_dir) / FOLDER
  folder.mkdir(parents=True, exist_ok=True)
  about = folder / f'{component}.json'
  about.unlink(missing_ok=True)
  with files.whole(folder / f'{component}.safetensors') as temporary:
    safetensors.save_file(
        {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()},
        temporary)
    temporary.chmod(0o644)
  files.write_json(about, dict(
      key=made_key, digest=digest(arrays), report=report))


def fit_semantic(tokenizer: Any, options: Any, split: Any
                 ) -> tuple[dict[str, np.ndarray], dict]:
  """({'mean', 'std', 'centroids'}, report) of the encoder's features."""
  from musiclm_jax.tokenizers.w2vbert import kmeans  # pylint: disable=g-import-not-at-top
  return kmeans.fit(tokenizer.extract, split, options.clusters,
                    kmeans.KMeansConfig(num_vectors=options.vectors))


def fit_joint(embedder: contracts.JointEmbedder, options: Any, corpus: Any
              ) -> tuple[dict[str, np.ndarray], dict]:
  """({'codebooks', 'text_shift'}, report), as for our own MuLan.

  The codebooks are fitted to audio and to the captions together, moved so that
  both have one mean.
  """
  from musiclm_jax.tokenizers.mulan import rvq  # pylint: disable=g-import-not-at-top
  config = rvq.MulanRvqConfig(num_clips=options.clips)
  split = corpus.split('train')
  audio = rvq.clip_embeddings(embedder, split, config)
  captions = sorted({c for track in split for c in track.captions})
  fitted = rvq.fit_codebooks(
      audio, embedder.embed_text(captions), embedder.spec, config)
  return fitted, dict(vectors=len(audio) + len(captions),
                      captions=len(captions))
