"""Stories: what they say, and in which line they are wrong."""

import pytest

from musiclm_jax import errors
from musiclm_jax.systems.musiclm import story

_GOOD = '''\
# a comment
- at: 0:00
  prompt: a slow air
- at: 15
  prompt: "reel: fast, #1"
- {at: 0:40, prompt: a jig}
- at: 1:05
  prompt: >-
    a waltz
    on accordion
- prompt: the end
  at: 1:00:00
'''


def test_times_and_prompts():
  parts = story.parse(_GOOD)
  assert [(p.at, p.prompt) for p in parts] == [
      (0, 'a slow air'), (15, 'reel: fast, #1'), (40, 'a jig'),
      (65, 'a waltz on accordion'), (3600, 'the end')]


@pytest.mark.parametrize('prompt', [
    'x', 'a: b # c', '"quoted"', "it's", '- a', 'null', '0:10', '{a}', 'é 音',
    '@x', 'long ' * 60 + 'end'])
def test_what_is_written_reads_the_same(tmp_path, prompt):
  parts = (story.Part(0, prompt), story.Part(75, 'x'))
  path = tmp_path / 'a.yaml'
  path.write_text(story.dump(parts, ['made\nby hand']), encoding='utf-8')
  assert story.load(path) == parts


@pytest.mark.parametrize('text, message', [
    ('', 'is empty'),
    ('- at: 0\n\tprompt: x', 'line 2: not YAML'),
    ('a\n--- b', 'line 2: not YAML'),
    ('at: 0', 'line 1: expected a list of parts'),
    ('[]', 'line 1: expected a list of parts'),
    ('- 5', 'line 1: expected a part with at and prompt'),
    ('- at: 0\n  prompt: x\n- at: 9', 'line 3: the part has no prompt'),
    ('- prompt: x', 'line 1: the part has no at'),
    ('- at: 0\n  prompt: x\n  tempo: 3', "line 3: unknown key 'tempo'"),
    ('- at: 0\n  prompt: x\n  at: 1', 'line 3: at is there twice'),
    ('- at: 0\n  prompt: [x]', 'line 2: prompt is a sequence'),
    ('- at: 0\n  prompt: ""', 'line 2: the prompt is empty'),
    ('- at: 0\n  prompt:', 'line 2: the prompt is empty'),
    ('- at: 0\n  prompt: null', 'line 2: the prompt is empty'),
    ('- at: -1\n  prompt: x', "line 1: at is '-1'; expected m:ss"),
    ('- at: 0.5\n  prompt: x', "line 1: at is '0.5'"),
    ('- at: 0:75\n  prompt: x', "line 1: at is '0:75'"),
    ('- at: 1:99:00\n  prompt: x', "line 1: at is '1:99:00'"),
    ('- at: now\n  prompt: x', "line 1: at is 'now'"),
    ('- at: 0:05\n  prompt: x', 'line 1: the first part begins at 0:05'),
    ('- at: 0\n  prompt: x\n\n- at: 9\n  prompt: y\n- at: 8\n  prompt: z',
     'line 6: 0:08 comes after 0:09'),
])
def test_mistakes_name_their_line(tmp_path, text, message):
  path = tmp_path / 'my.yaml'
  path.write_text(text)
  with pytest.raises(errors.UserError) as error:
    story.load(path)
  assert message in str(error.value) and 'my.yaml' in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
  (tmp_path / 'a.yaml').write_bytes(b'\xff\xfe\xff')
  (tmp_path / 'b.yaml').write_text('#' * 2_000_000)
  for path, message in ((tmp_path, 'is a folder'),
                        (tmp_path / 'a.yaml', 'not UTF-8'),
                        (tmp_path / 'b.yaml', 'at most')):
    with pytest.raises(errors.UserError, match=message):
      story.load(path)


def test_every_part_begins_before_the_end():
  parts = (story.Part(0, 'x'), story.Part(90, 'y'))
  story.check_length(parts, 90.5)
  with pytest.raises(errors.UserError, match='at 1:30, but the music ends'):
    story.check_length(parts, 90)
