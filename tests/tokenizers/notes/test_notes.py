"""The notes that lead a melody: slots, network, codes, training."""

import dataclasses

import jax
import numpy as np
import pytest

from musiclm_jax import bundle
from musiclm_jax import configs
from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokenizers.notes import crops
from musiclm_jax.tokenizers.notes import embedder
from musiclm_jax.tokenizers.notes import model as notes_model
from musiclm_jax.training import shares

_RATE = 24_000
_CONFIG = notes_model.NotesConfig(
    octaves=4, bands_per_octave=24, dim=16, num_layers=1)


def _tone(pitch, seconds):
  time = np.arange(int(seconds * _RATE)) / _RATE
  return (0.3 * np.sin(2 * np.pi * 440 * 2**((pitch - 69) / 12) * time)
          ).astype(np.float32)


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch):
  monkeypatch.setattr(embedder, '_BLOCK_SECONDS', 4)


@pytest.fixture(name='corpus', scope='module')
def _corpus(tmp_path_factory):
  """Tunes of pure tones, with their notes."""
  place = tmp_path_factory.mktemp('notes') / 'corpus'
  rng = np.random.default_rng(0)
  with records.Writer(place, 'tones', _RATE, licence='CC0') as writer:
    for split, count in (('train', 6), ('validation', 2)):
      for number in range(count):
        pitches = rng.integers(57, 82, 16)
        melody = [[0.5 * i, 0.5, int(p)] for i, p in enumerate(pitches)]
        writer.add(split, f'{split}{number}', np.concatenate(
            [_tone(p, 0.5) for p in pitches]), melody=melody)
  return place


@pytest.fixture(name='heard', scope='module')
def _heard():
  """An untrained embedder."""
  audio = np.zeros((1, 2 * _RATE), np.float32)
  params = notes_model.Notes(_CONFIG).init(jax.random.key(0), audio)['params']
  return embedder.NotesEmbedder(_CONFIG, params)


def test_a_slot_has_the_note_in_its_middle():
  melody = [[1.0, 0.25, 61], [1.3, 0.1, 62], [1.99, 0.5, 72]]
  found = crops.slot_classes(melody, 1.0, 8, 0.125).tolist()
  # Middles at 1.0625, 1.1875 | 1.3125 | ... 1.9375: the last note is too late.
  assert found == [1, 1, 2, 12, 12, 12, 12, 12]
  later = crops.slot_classes(melody, 1.25, 8, 0.125).tolist()
  assert later == [2, 12, 12, 12, 12, 12, 0, 0]


def test_bands_find_their_pitch():
  """A tone's largest band is its own, for each semitone above the resolution."""
  pitches = np.arange(57, 93)
  found = np.asarray(notes_model.bands(
      np.stack([_tone(p, 1.0) for p in pitches]), notes_model.NotesConfig()))
  assert found.shape == (36, 16, 180)
  largest = found[:, 4:12].mean(1).argmax(-1)
  semitones = 45 + largest / 3  # 110 Hz is A2, MIDI 45
  np.testing.assert_allclose(semitones, pitches, atol=0.5)


def test_it_is_a_melody_embedder(heard):
  assert not contracts.differences(heard, contracts.MelodyEmbedder)


def test_codes_are_the_likeliest_classes(heard):
  audio = np.concatenate([_tone(p, 1.5) for p in (60, 64, 67)])[None]
  embeddings = heard.embed_windows(audio)
  assert embeddings.shape == (1, 5, 104)
  np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, rtol=1e-5)
  codes = heard.quantize(embeddings)
  np.testing.assert_array_equal(heard.encode(audio), codes.reshape(1, -1))
  assert codes.shape == (1, 5, 8) and codes.min() >= 0 and codes.max() < 13
  # What codes stand for comes back as the same codes.
  stands = sum(heard.codebooks[q][codes[0, :, q]] for q in range(8))
  np.testing.assert_array_equal(heard.quantize(stands), codes[0])


def test_blocks_change_nothing(heard, monkeypatch):
  audio = np.random.default_rng(0).normal(size=(1, 9 * _RATE)).astype(
      np.float32) * 0.1
  whole = heard.embed_windows(audio)
  monkeypatch.setattr(embedder, '_BLOCK_SECONDS', 12)
  np.testing.assert_allclose(heard.embed_windows(audio), whole, atol=1e-5)


def test_a_grid_of_another_kind_is_refused():
  with pytest.raises(errors.UserError, match='windows side by side'):
    notes_model.NotesConfig(melody=specs.MelodySpec())


def test_batches_are_a_function_of_the_step(corpus):
  source = crops.NotesBatches(str(corpus), batch_size=4, crop_seconds=2)
  first = next(source.batches(3))
  again = next(source.batches(3))
  for name, shape in source.batch_shapes().items():
    np.testing.assert_array_equal(first[name], again[name])
    assert first[name].shape == shape.shape and first[name].dtype == shape.dtype
  assert not np.array_equal(first['audio'], next(source.batches(4))['audio'])
  halves = [next(source.batches(3, shares.Share((i,), 2))) for i in (0, 1)]
  np.testing.assert_array_equal(
      np.concatenate([h['audio'] for h in halves]), first['audio'])


def test_without_notes_there_is_nothing_to_learn(tmp_path):
  with records.Writer(tmp_path / 'c', 'x', _RATE, licence='CC0') as writer:
    writer.add('train', 'a', _tone(60, 2.0))
  source = crops.NotesBatches(str(tmp_path / 'c'), batch_size=2)
  with pytest.raises(errors.UserError, match='states its `melody`'):
    next(source.batches(0))


def test_it_learns_pure_tones_and_comes_back_from_a_bundle(corpus, tmp_path):
  arguments = configs.load('notes_tiny', dict(
      MODEL_DIR=str(tmp_path), CORPUS_DIR=str(corpus),
      BATCH_SIZE=8)).arguments
  trainable, source = arguments['trainable'], arguments['source']
  batch = next(source.batches(0))
  state = trainable.init(jax.random.key(0), batch)
  before = trainable.evaluate(state, batch, None)
  step = jax.jit(trainable.update)
  for _ in range(60):
    state, metrics = step(state, batch, None)
  assert float(metrics['right_notes']) > 0.9 > 0.5 > float(
      before['right_notes'])
  exported = trainable.export(
      jax.tree.map(np.asarray, state), source.corpus)
  bundle.save_component(tmp_path / 'melody', **exported)
  config = trainable.model
  assert exported['spec'] == config.melody
  loaded = bundle.load_component(tmp_path / 'melody')
  back = embedder.from_component(loaded)
  assert back.config == config
  codes = back.encode(batch['audio'])
  logits = np.asarray(notes_model.Notes(config).apply(
      {'params': state.params}, batch['audio']))
  # Embedded with silence around it, as any clip is; its own middle agrees.
  agree = codes == logits.argmax(-1)
  assert agree.mean() > 0.95
  assert dataclasses.asdict(back.spec) == dataclasses.asdict(config.melody)
