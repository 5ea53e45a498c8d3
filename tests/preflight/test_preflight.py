"""Preflight beside counts by hand; the leaves it compiles for TPUs."""

import dataclasses
import doctest
import importlib.util
import json
import math
import pathlib
import re
import subprocess
import sys
import threading
import time
import types

import jax
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax.commands import preflight as command
from musiclm_jax.preflight import chip as chip_lib
from musiclm_jax.preflight import hlo
from musiclm_jax.preflight import machines
from musiclm_jax.preflight import plan
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import shares
from musiclm_jax.training import trainable as trainable_lib

ALONE = dict(data=1, fsdp=1, model=1)
CHIP = machines.Chip('chip', flops=100.0, memory=1000.0, memory_rate=10.0,
                     link_rate=5.0)


@dataclasses.dataclass(frozen=True)
class Source(trainable_lib.BatchSource):
  """Of a stage's batches, the shapes."""

  stage: object
  rows: int = 4

  def batches(self, start_step, share=shares.WHOLE):
    raise AssertionError('preflight has no data to look at')

  def eval_batches(self, share=shares.WHOLE):
    raise AssertionError('preflight has no data to look at')

  def batch_shapes(self):
    layout = self.stage.layout
    batch = tiny_stage.batch_of(layout, tiny_stage.codes(layout, self.rows))
    return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}


def setup(microbatch=0, **settings):
  values = dict(embed_dim=32, num_layers=4, num_heads=2, head_dim=16,
                mlp_dim=128, attention_chunk=8, scan_layers=True)
  values.update(settings)
  stage = tiny_stage.stage_model('semantic', seconds=1, **values)
  return chip_lib.Setup(
      trainer.StageTrainable(stage, microbatch=microbatch), Source(stage),
      machines.topology(''), ALONE)


def by_hand(stage, rows):
  """Multiply-adds of a forward pass, chunk by chunk as they are computed."""
  config, length = stage.config, stage.layout.length
  chunk, joined = config.attention_chunk, config.joined_kv
  total = 0
  for start in range(0, length, chunk):
    stop = min(start + chunk, length)
    total += 2 * (stop - start) * stop * joined  # logits, then values
  total += length * config.embed_dim * (4 * joined + 3 * config.mlp_dim)
  total *= config.num_layers
  target = stage.layout.target
  total += target.length * config.embed_dim * target.codebook_size
  return 2 * rows * total


@pytest.fixture(name='report', scope='module')
def _report():
  return chip_lib.measure(setup())


def test_flops_are_those_of_the_model(report):
  stage = report.setup.trainable.model
  expected = 3 * by_hand(stage, report.rows)
  assert report.counts.products == pytest.approx(expected, rel=0.005)
  # The model's own need: attention over the past and not a position more.
  assert report.needs['flops'] == pytest.approx(expected, rel=0.04)
  assert report.needs['flops'] < expected
  assert report.needs['tokens'] == 4 * 25
  assert not report.counts.unknown_loops


def test_unrolled_it_is_the_same_work(report):
  unrolled = chip_lib.measure(setup(scan_layers=False))
  assert unrolled.counts.products == pytest.approx(
      report.counts.products, rel=0.001)


@pytest.mark.slow
def test_in_micro_batches_it_is_the_same_work(report):
  parts = chip_lib.measure(setup(microbatch=2))
  assert parts.counts.products == pytest.approx(
      report.counts.products, rel=0.001)
  assert parts.working < report.working


@pytest.mark.slow
def test_what_is_computed_again_counts_again(report):
  again = chip_lib.measure(setup(remat='full'))
  stage = report.setup.trainable.model
  head = 2 * 4 * stage.layout.target.length * 32 * 16
  # Nobody needs the result of a block's last product again.
  last = 2 * 4 * 4 * stage.layout.length * 128 * 32
  assert again.counts.products == pytest.approx(
      report.counts.products + by_hand(stage, 4) - head - last, rel=0.005)
  assert again.needs == report.needs


def test_memory_is_that_of_the_state(report):
  count = report.setup.trainable.model.num_params()
  assert report.parameters == 4 * count
  assert 0 <= report.optimizer - 8 * count < 64  # counters
  assert report.batch == 4 * 38 * 12  # two of int32, one of float32
  assert report.peak >= report.parameters + report.optimizer + report.working
  assert report.fits
  assert report.chip.flops > 1e8 and report.chip.memory > 2**28  # measured


def fake(counts=hlo.Counts(500.0, 20.0, {
    'all-gather': hlo.Collective(3, 40.0, 30.0)}, 0), peak=900, **changes):
  values = dict(
      setup=dataclasses.replace(
          setup(), topology=machines.Topology('fake', CHIP, ()),
          mesh=dict(data=4, fsdp=2, model=1)),
      rows=16, parameters=100, optimizer=200, batch=10, working=590, peak=peak,
      counts=counts, needs=dict(flops=2000.0, tokens=50))
  return chip_lib.Report(**{**values, **changes})


def test_the_roofline_is_the_slowest_part():
  report = fake()
  assert report.seconds() == dict(compute=5.0, memory=2.0, network=6.0)
  assert report.step_seconds() == 6.0
  # 2000 FLOPs on 8 chips in 6 s, of 100 a second each.
  assert report.mfu(6.0) == pytest.approx(2000 / 8 / 600)
  found = report.figures()
  assert found['tokens_per_s'] == pytest.approx(50 / 6)
  assert (found['all_gather_count'], found['mesh_fsdp'], found['chips']) == (
      3, 2, 8)
  json.dumps(found)
  text = '\n'.join(command.lines(report, 86_400))
  assert 'mesh data=4,fsdp=2' in text and 'fits' in text
  assert 'at least 6.00 days, 48.0 chip-days' in text


def test_what_the_compiler_expects_is_said_where_it_says_something():
  chip = dataclasses.replace(CHIP, clock=10.0)
  known = dataclasses.replace(fake().counts, cycles=80.0)
  setup_ = dataclasses.replace(
      fake().setup, topology=machines.Topology('fake', chip, ()))
  report = fake(counts=known, setup=setup_)
  assert report.expected_seconds() == 8.0
  found = report.figures()
  assert found['expected_seconds'] == 8.0
  assert found['mfu_expected'] == pytest.approx(2000 / 8 / 800)
  assert 'expects 8 s of its kernels' in '\n'.join(command.lines(report, 1))
  assert 'expected_seconds' not in fake().figures()
  assert 'expects' not in '\n'.join(command.lines(fake(), 1))


def test_clocks_are_those_of_the_makers():
  for name, gigahertz in (('v4', 1.05), ('v5e', 1.5), ('v5p', 1.75),
                          ('v6e', 1.75)):
    assert machines.CHIPS[name].clock == pytest.approx(
        1e9 * gigahertz, rel=0.01)


def test_over_the_memory_it_says_so():
  text = '\n'.join(command.lines(fake(peak=990), 1))
  assert 'DOES NOT FIT' in text and '101%' in text
  # A compiler that gives up leaves nothing to time.
  report = fake(counts=None, peak=5000)
  assert not report.fits and 'step_seconds' not in report.figures()
  assert 'at least' not in '\n'.join(command.lines(report, 1))


def test_how_much_is_missing_is_read_from_what_the_compiler_says():
  result = doctest.testmod(plan)
  assert result.attempted and not result.failed
  assert plan.needed('an internal error', 5) is None


class Lowered:
  """A TPU's compiler: prints its plan, then is at its kernels till `done`."""

  def __init__(self, text, done, error=None):
    self._text, self._done, self._error = text, done, error

  def compile(self, compiler_options):
    if self._error:
      raise jax.errors.JaxRuntimeError(self._error)
    folder = pathlib.Path(compiler_options['xla_dump_to'])
    write = lambda name, text: (
        folder / f'module_0000.jit_update.cl_1.{name}').write_text(text)
    write('debug_options', 'of the input, before there is a plan')
    time.sleep(0.1)
    write('after_optimizations-memory-usage-report.txt',
          'Memory Space: default (color=0)\nTotal bytes: 1000 (1000B)\n'
          'Memory Space: vmem (color=1)\nTotal bytes: 77 (77B)\n')
    write('after_optimizations-buffer-assignment.txt',
          'allocation 0: size 920, page 0, preallocated-temp:\n'
          'allocation 1: size 50, page 0, thread-local:\n'
          'allocation 2: size 30, page 0, thread-local:\n'
          'allocation 3: size 7, color 1, page 0, thread-local:\n')
    write('after_optimizations_after_buffer_assignment.txt', self._text)
    time.sleep(0.1)
    write('debug_options', 'of the plan')
    self._done.wait(60)


def program(lowered):
  """Like `step.Program`: 24 bytes of state, 8 of a batch."""
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  held = lambda n: jax.ShapeDtypeStruct((n,), np.float32, sharding=sharding)
  return types.SimpleNamespace(
      state=held(6), batch=held(2),
      update=types.SimpleNamespace(lower=lambda *_: lowered))


def test_the_plan_is_read_before_the_kernels_are_done():
  done = threading.Event()
  found = plan.make(program(Lowered('the program', done)), True, kernels=False)
  done.set()
  assert found == plan.Plan('the program', working=920 - 32, peak=920)


def test_a_plan_that_does_not_fit():
  lowered = Lowered('', None, 'Used 2.00K of 1.00K hbm.')
  for kernels in (False, True):
    found = plan.make(program(lowered), True, kernels)
    assert found == plan.Plan('', working=2048 - 32, peak=2048)
  lowered = Lowered('', None, 'an internal error')
  with pytest.raises(jax.errors.JaxRuntimeError, match='internal'):
    plan.make(program(lowered), True, kernels=False)


def test_settings_that_need_less_come_in_order():
  base = setup(remat='none')
  base = dataclasses.replace(
      base, source=Source(base.trainable.model, 16),
      mesh=dict(data=4, fsdp=1, model=1))
  found = list(chip_lib.smaller(base))
  assert [name for name, _ in found] == [
      '--gin.MICROBATCH=8', '--gin.MICROBATCH=4',
      '--gin.DecoderConfig.remat="\'full\'"', '--gin.MESH="{\'fsdp\': 4}"']
  base = dataclasses.replace(base, source=Source(base.trainable.model, 24))
  found = list(chip_lib.smaller(base))
  assert [name for name, _ in found[:3]] == [  # all that divide, no halves alone
      '--gin.MICROBATCH=12', '--gin.MICROBATCH=8', '--gin.MICROBATCH=4']
  assert found[1][1].trainable.microbatch == 8
  assert found[3][1].trainable.model.config.remat == 'full'


def test_advice_names_what_fits(monkeypatch):
  peaks = iter([950, 900, 100])
  fake_one = lambda setup, **more: fake(setup=dataclasses.replace(
      setup, topology=machines.Topology('fake', CHIP, ())), **more)
  monkeypatch.setattr(
      chip_lib, 'measure',
      lambda setup: fake_one(setup, peak=next(peaks)))
  base = setup()
  base = dataclasses.replace(base, source=Source(base.trainable.model, 64))
  # Of 2,000 bytes 200 are the state: there is room for 43% of the rest.
  report = fake_one(base, working=1800, peak=2000)
  lines = list(command.advice(report))
  assert [line.split(':')[0] for line in lines] == [
      'fits with --gin.MICROBATCH=32', 'fits with --gin.MICROBATCH=16']
  # Room for a tenth: a half and a quarter are not even tried.
  peaks = iter([990, 100, 50])
  lines = list(command.advice(fake_one(base, working=7800, peak=8000)))
  assert [line.split(':')[0] for line in lines] == [
      'not enough', 'fits with --gin.MICROBATCH=4',
      'fits with --gin.MICROBATCH=2']


@pytest.mark.parametrize('text', ['data', 'data=', 'data=2;model=2', '=3'])
def test_bad_meshes(text):
  with pytest.raises(errors.UserError, match='data=64,model=4'):
    command.parse_mesh(text)
  assert command.parse_mesh('') is None
  assert command.parse_mesh('data=-1,model=4') == dict(data=-1, model=4)


@pytest.mark.parametrize('name', [
    'v5e', 'v9:2x2', 'v5e:2', 'v5e:2x2x2', 'v5e:2x2x2x2', 'v5e:0x4',
    'v5e:16x32'])
def test_bad_topologies(name):
  with pytest.raises(errors.UserError, match='v5e:16x16'):
    machines.topology(name)
  with pytest.raises(errors.UserError, match='v4:4x4x8, of 1 to 4,096'):
    machines.topology('v4:4x4')


def test_the_generator_of_a_leaf_is_compiled():
  assert command.load(['semantic_tiny'])[0].generator == 'threefry2x32'
  found, _ = command.load(['semantic_tiny'], ["GENERATOR = 'rbg'"])
  assert found.generator == 'rbg'


def test_directories_need_no_names():
  found, steps = command.load(['semantic_tiny'], batch=6)
  assert (found.source.batch_size, steps) == (6, 20)
  assert math.prod(found.mesh.values()) == len(jax.devices())
  assert configs.required('semantic_tiny') == {'MODEL_DIR', 'CACHE_DIR'}


# ---- for TPUs, where their compiler is installed ----

LIBTPU = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None, reason='libtpu is missing')


def run(tmp_path, *argv):
  """The figures of `musiclm preflight`, in a process of its own."""
  out = tmp_path / 'figures.json'
  done = subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.commands.cli', 'preflight', *argv, '--json',
       str(out)], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  return json.loads(out.read_text()), done.stdout


@LIBTPU
@pytest.mark.slow
@pytest.mark.parametrize('topology, chips', [
    ('v4:2x2x2', 8), ('v5e:2x4', 8), ('v5p:2x2x2', 8), ('v6e:2x4', 8)])
def test_every_generation_compiles(tmp_path, topology, chips):
  found, _ = run(tmp_path, 'semantic_tiny', '--topology', topology, '--mesh',
                 'data=2,fsdp=2,model=2', '--batch', '16')
  assert (found['chips'], found['fits']) == (chips, True)
  assert found['all_gather_count'] > 0 and found['step_seconds'] > 0
  assert 0 < found['mfu_ceiling'] < 1


@LIBTPU
@pytest.mark.slow
def test_over_the_memory_of_a_chip_it_says_what_fits(tmp_path):
  found, said = run(tmp_path, 'semantic_tiny', '--topology', 'v5e:2x2',
                    '--batch', '65536', '--roofline')
  assert not found['fits'] and 'step_seconds' not in found
  assert found['peak_bytes'] > 16 * 2**30 and 'DOES NOT FIT' in said
  assert len(re.findall(
      r'fits with --gin.MICROBATCH=\d+: [\d.]+ GiB', said)) == 2


@LIBTPU
@pytest.mark.slow
def test_the_paper_size_scanned_counts_every_layer(tmp_path):
  found, _ = run(tmp_path, 'semantic_base', '--topology', 'v5e:4x4', '--batch',
                 '32', '--roofline')
  # 430 M parameters, two rows of 763 tokens a chip, the forward pass twice:
  # 8 FLOPs a parameter and token, but for both tables.
  assert found['flops'] == pytest.approx(
      8 * 402.7e6 * 763 * 2, rel=0.12)
  assert found['parameter_bytes'] == 4 * 430_228_992


@LIBTPU
@pytest.mark.slow
@pytest.mark.parametrize('topology', ['v5e:2x2', 'v5p:2x2x1'])
def test_without_the_kernels_it_is_the_same_program(tmp_path, topology):
  argv = ('semantic_tiny', '--topology', topology, '--batch', '4')
  found, _ = run(tmp_path, *argv, '--roofline')
  whole, _ = run(tmp_path, *argv)
  assert whole.pop('expected_seconds') > 0 and whole.pop('mfu_expected') > 0
  # The kernels themselves lie in the memory too: a few MiB.
  assert 0 < whole['peak_bytes'] - found['peak_bytes'] < 20 * 2**20
  for name in ('peak_bytes', 'working_bytes'):
    del whole[name], found[name]
  assert found == whole


PODS = [('v4_128', 'v4:4x4x8'), ('v5e_256', 'v5e:16x16'),
        ('v5p_64', 'v5p:4x4x4'), ('v6e_256', 'v6e:16x16')]


@LIBTPU
@pytest.mark.slow
@pytest.mark.parametrize('leaf', [
    'semantic', 'coarse', 'fine', 'mulan', 'w2vbert', 'soundstream'])
@pytest.mark.parametrize('pod, topology', PODS)
def test_the_paper_sizes_fit_the_pods(tmp_path, leaf, pod, topology):
  files = [f'{leaf}_base', f'pods/{pod}']
  if leaf == 'soundstream':  # 64 rows, for 64 chips of its own mesh
    files.pop()
    topology = {'v4_128': 'v4:4x4x4', 'v5e_256': 'v5e:8x8',
                'v6e_256': 'v6e:8x8'}.get(pod, topology)
  found, _ = run(tmp_path, *files, '--topology', topology, '--roofline')
  chips = int(pod.split('_')[1]) if len(files) > 1 else 64
  assert found['chips'] == chips and found['fits']
  assert found['step_seconds'] > 0
