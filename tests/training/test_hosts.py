"""Who takes part, by the environment."""

import doctest

import pytest

from musiclm_jax import errors
from musiclm_jax.training import hosts


def environment(**more):
  return {**dict(MUSICLM_COORDINATOR='node7:1234', MUSICLM_NUM_PROCESSES='4',
                 MUSICLM_PROCESS_ID='0'), **more}


def test_alone_and_by_itself():
  assert hosts.settings({}) is None
  assert hosts.settings(environment(MUSICLM_COORDINATOR='')) is None
  assert hosts.settings({'MUSICLM_COORDINATOR': 'auto'}) == {}
  hosts.join({})  # nothing happens


def test_what_gin_says_goes_first():
  alone = hosts.settings({'MUSICLM_PROCESS_ID': '1'}, 'first:99', 2)
  assert alone == dict(coordinator_address='first:99', num_processes=2,
                       process_id=1)
  both = hosts.settings(environment(), 'first:99', 8, 0)
  assert both == dict(coordinator_address='first:99', num_processes=8,
                      process_id=0)
  assert hosts.settings(environment(), process_id=3)['process_id'] == 3
  assert hosts.settings(environment(), 'auto') == {}
  with pytest.raises(errors.UserError, match='PROCESS_ID .* 2 of 2'):
    hosts.settings({}, 'first:99', 2, 2)
  with pytest.raises(errors.UserError, match="NUM_PROCESSES .* 'two'"):
    hosts.settings({}, 'first:99', 'two', 0)


def test_examples_in_docstrings():
  result = doctest.testmod(hosts)
  assert result.attempted and not result.failed


def test_a_stopped_run_says_so_to_who_asked():
  asked = {'MUSICLM_STOPPED_EXIT': '75'}
  assert hosts.exit_code('SIGTERM', asked) == 75
  assert hosts.exit_code('SIGTERM', {}) == 0
  assert hosts.exit_code('finished', asked) == 0
  assert hosts.exit_code('time', asked) == 0


@pytest.mark.parametrize('more, said', [
    (dict(MUSICLM_COORDINATOR='node7'), "'HOST:PORT'"),
    (dict(MUSICLM_NUM_PROCESSES=''), r"\(MUSICLM_NUM_PROCESSES\) is ''"),
    (dict(MUSICLM_PROCESS_ID='-1'), r"PROCESS_ID \(.*\) is '-1'"),
    (dict(MUSICLM_PROCESS_ID='4'), 'expected 0 to 3')])
def test_what_does_not_fit_is_refused(more, said):
  with pytest.raises(errors.UserError, match=said):
    hosts.settings(environment(**more))
