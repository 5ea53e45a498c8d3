"""audio_folder: captions files are read whole, or refused with a line."""

import json
import unicodedata

import pytest

from musiclm_jax import errors
from musiclm_jax.data.audio_folder import labels


def _load(tmp_path, name, text):
  (tmp_path / name).write_bytes(
      text if isinstance(text, bytes) else text.encode('utf-8'))
  return labels.load(tmp_path, tmp_path / name)


def _captions(tmp_path, name, text, *files):
  found, _ = _load(tmp_path, name, text).match(files)
  return {file: entry['captions'] for file, entry in found.items()}


@pytest.mark.parametrize('apart', [
    '\n', '\r\n', '\r', '\u2028', '\u2029', '\x85', '\x0b', '\x0c', '\x1c'])
def test_a_caption_may_hold_line_breaks(tmp_path, apart):
  caption = f'A slow air.{apart}Played on a harp.'
  expected = {'a.wav': [caption], 'b.wav': ['Second.']}
  table = f'file,caption\na.wav,"{caption}"\nb.wav,Second.\n'
  assert _captions(tmp_path, 'c.csv', table, 'a.wav', 'b.wav') == expected
  for ascii_only in (True, False):
    lines = ''.join(
        json.dumps(dict(file=f, captions=c), ensure_ascii=ascii_only) + '\n'
        for f, c in expected.items())
    assert _captions(tmp_path, 'c.jsonl', lines, 'a.wav', 'b.wav') == expected


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_every_line_end_of_a_table(tmp_path, end):
  text = end.join(['\ufefffile,caption,aspects', 'a.wav,"One, ""two"".",x;y',
                   '', ' , , ', 'b.wav,Two.'])
  found, _ = _load(tmp_path, 'c.csv', text).match(['a.wav', 'b.wav'])
  assert found == {
      'a.wav': dict(captions=['One, "two".'], aspects=['x', 'y']),
      'b.wav': dict(captions=['Two.'], aspects=[])}


@pytest.mark.parametrize('name, text, said', [
    ('c.csv', 'path,text\nx,y\n', 'columns path, text'),
    ('c.csv', '', 'columns none'),
    ('c.csv', 'file,caption\na.wav,A slow air, on a harp\n',
     'line 2: 3 fields, expected 2; a text with a comma'),
    ('c.csv', 'file,caption\na.wav,"x\ny"\nb.wav\n', 'line 4: 1 fields'),
    ('c.csv', 'file,caption\na.wav,One.\nb.wav,"Two.\nc.wav,Three.\n',
     'line 3: not CSV'),
    ('c.csv', 'file,caption\na.wav,"One.\nb.wav,"Two."\n', 'line 2: not CSV'),
    ('c.csv', 'file,caption\na.wav,"One." more\n', 'line 2: not CSV'),
    ('c.csv', f'file,caption\na.wav,{"x" * 140_000}\n', 'line 2: not CSV'),
    ('c.csv', 'file,caption,Caption\na.wav,x,y\n', '2 columns caption'),
    ('c.csv', 'file,caption\n ,x\n', 'line 2: no file named'),
    ('c.csv', b'file,caption\na.wav,\xff\n', 'not UTF-8'),
    ('c.jsonl', '{"file": "x"\n', 'line 1: not JSON'),
    ('c.jsonl', '{"file": "x", "caption": "y"}\n' + '[' * 5000,
     'line 2: too many brackets within brackets'),
    ('c.jsonl', '{"caption": "x"}\n', 'line 1: expected'),
    ('c.jsonl', '{"file": "", "caption": "x"}\n', 'line 1: expected'),
    ('c.jsonl', '{"file": "x", "captions": [1]}\n', 'must be strings'),
    ('c.jsonl', '{"file": "x", "captions": false}\n', 'must be strings'),
    ('c.txt', 'x', "extension '.txt'")])
def test_what_is_wrong_is_said(tmp_path, name, text, said):
  with pytest.raises(errors.UserError) as error:
    _load(tmp_path, name, text)
  assert said in str(error.value) and '\n' not in str(error.value)


def test_caption_and_captions_are_both_taken(tmp_path):
  text = '{"file": "a.wav", "caption": "One.", "captions": ["Two.", "One."]}'
  assert _captions(tmp_path, 'c.jsonl', text, 'a.wav') == {
      'a.wav': ['One.', 'Two.']}


def test_blank_captions_are_none(tmp_path):
  text = '\n'.join(json.dumps(dict(file='a.wav', captions=c)) for c in (
      ['', '  ', '\u200b'], ['\ufeff \u2060', ' A slow air. ']))
  read = _load(tmp_path, 'c.jsonl', text)
  assert read.blank == 4
  assert read.match(['a.wav'])[0]['a.wav']['captions'] == ['A slow air.']
  # An empty field of a table is no caption at all.
  assert _load(tmp_path, 'c.csv', 'file,caption\na.wav,\n').blank == 0


def test_names_compare_as_they_read(tmp_path):
  plain, other = (unicodedata.normalize(form, 'é/été.wav')
                  for form in ('NFC', 'NFD'))
  assert plain != other
  for said, there in ((plain, other), (other, plain), ('été.wav', other)):
    text = f'file,caption\n{said},Summer.\n'
    assert _captions(tmp_path, 'c.csv', text, there) == {there: ['Summer.']}


def test_a_bare_name_that_fits_two_files_is_refused(tmp_path):
  text = 'file,caption\nb.wav,One.\ntake.wav,Two.\n'
  files = ['x/take.wav', 'y/take.wav', 'x/b.wav']
  with pytest.raises(errors.UserError, match=(
      r'line 3: take.wav may be x/take.wav or y/take.wav; name it with')):
    _captions(tmp_path, 'c.csv', text, *files)
  # A path that is there is meant, whatever else has that name.
  assert _captions(tmp_path, 'c.csv', text, 'take.wav', 'x/take.wav') == {
      'take.wav': ['Two.'], 'x/take.wav': []}
  # A path and a bare name may both say something.
  text = 'file,caption\n./x/b.wav,One.\nb.wav,Two.\nx\\b.wav,Three.\n'
  assert _captions(tmp_path, 'c.csv', text, 'x/b.wav') == {
      'x/b.wav': ['One.', 'Three.', 'Two.']}
