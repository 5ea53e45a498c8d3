"""README and docs/: their links lead somewhere, and their commands are commands."""

import pathlib
import re
import shlex

import pytest

from musiclm_jax.commands import cli

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
COMMAND = re.compile(r'^(?:bash launch/local\.sh|musiclm) (.*)$')


def _commands(page):
  """Command lines of the fenced blocks, those for reading only left out."""
  found = []
  for block in page.read_text().split('```')[1::2]:
    for line in block.replace('\\\n', ' ').splitlines():
      line = re.split(r'\s{3,}', line.strip())[0]  # what follows explains
      match = COMMAND.match(line)
      if match and not re.search(r'\[|\.\.\.|\b(test|t5x)\b', match[1]):
        found.append(match[1])
  return found


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)#:]+)\)', page.read_text()):
    assert (page.parent / link).exists(), link


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_commands_parse(page):
  for command in _commands(page):
    args, module = cli._parse(shlex.split(command, comments=True))  # pylint: disable=protected-access
    assert args is not None and hasattr(module, 'run'), command


def test_commands_are_found():
  assert len(_commands(ROOT / 'README.md')) > 5


def test_the_readme_is_short_and_names_every_page():
  text = PAGES[0].read_text()
  assert len(text.splitlines()) <= 150
  for page in PAGES[1:]:
    assert f'(docs/{page.name})' in text, page.name
