"""What counts as nothing to read."""

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import text
from musiclm_jax.systems.musiclm import story
from musiclm_jax.tokenizers.mulan import sources


@pytest.mark.parametrize('blank', [
    '', ' ', '\t\r\n', '\u00a0\u3000', '\u200b', '\ufeff\u2060', '\u2028\x85'])
def test_blank(blank):
  assert text.is_blank(blank)
  assert not text.is_blank(blank + '-')


@pytest.mark.parametrize('seen', ['x', '♪', '\U0001f3b5', 'е́', '\ue000'])
def test_not_blank(seen):
  assert not text.is_blank(seen)


def test_blank_captions_of_a_corpus_are_not_trained_on(tmp_path):
  with records.Writer(tmp_path / 'c', 'c', 24_000) as writer:
    for name, captions in (('a', ['', 'An air.', '\u200b']), ('b', [' '])):
      writer.add('train', name, np.zeros(9, np.int16),
                 captions=captions)
  split = records.Corpus(tmp_path / 'c').split('train')
  assert [t.captions for t in split] == [['An air.'], []]
  assert [t.id for t in sources.captioned(split)] == ['a']


def test_a_blank_prompt_of_a_story():
  with pytest.raises(errors.UserError, match='line 2: the prompt is empty'):
    story.parse('- at: 0:00\n  prompt: "\\u200b"\n')


def test_a_story_of_brackets():
  with pytest.raises(errors.UserError, match='too many brackets'):
    story.parse('[' * 5000)
