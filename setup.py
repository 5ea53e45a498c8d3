"""Packaging: the base install generates and inspects, without TensorFlow.

`data/` and `gin/` stand at the top of the repository, where a reader looks for
them, and ship inside the package as musiclm_jax.data and musiclm_jax.gin_files.

Three needed packages ask for requirements that this project does not use (torch,
portaudio, an old NumPy), so they are not listed here: launch/local.sh installs
them alone, and the code that wants one names the command when it is missing.
"""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
    r"__version__ = '([^']+)'",
    (_ROOT / 'musiclm_jax/__init__.py').read_text()).group(1)

_PACKAGES = setuptools.find_packages(include=['musiclm_jax', 'musiclm_jax.*'])
_DATA = ['musiclm_jax.data'] + [
    f'musiclm_jax.data.{name}' for name in setuptools.find_packages('data')]
_GIN = ['musiclm_jax.gin_files'] + [
    'musiclm_jax.gin_files.' + '.'.join(path.relative_to(_ROOT / 'gin').parts)
    for path in sorted((_ROOT / 'gin').rglob('*')) if path.is_dir()]

_EXTRAS = {
    'train': [
        'optax>=0.2.5', 'orbax-checkpoint>=0.11', 'gin-config>=0.5',
        'absl-py>=2.1', 'tensorboardX>=2.6',
        'tensorflow>=2.20',
        'tensorflow-text>=2.20', 'seqio>=0.0.20', 'tensorflow-datasets>=4.9.8',
        'protobuf>=5.28',
    ],
    'data': ['music21>=9.7', 'pretty_midi>=0.2.10', 'mido>=1.3', 'fsspec>=2024.6'],
    # T5X itself has no release: the commits are in locks/t5x_commits.txt, to be
    # installed without what they declare (`launch/local.sh t5x` does it).
    't5x': [
        'fiddle>=0.3', 'chex>=0.1.89', 'cached_property>=2.0',
        'jaxtyping>=0.3', 'tensorboard>=2.19', 'grain>=0.2.10', 'clu>=0.0.12',
    ],
    # `--runner` of ingest and precompute; sources at gs://, s3:// and the like.
    'beam': ['apache-beam>=2.60', 'fsspec>=2024.6'],
    'tpu': ['libtpu>=0.0.40'],
    'cuda': ['jax[cuda12]>=0.10'],
    'hf': ['transformers>=5.0', 'torch>=2.6'],
    'web': [
        'gradio>=6.0', 'fastapi>=0.115.2', 'uvicorn>=0.30', 'pydantic>=2.7',
        'python-multipart>=0.0.18',
    ],
    'web_test': ['playwright>=1.50'],  # drives a chromium that is installed
    'eval': [
        'matplotlib>=3.9', 'onnxruntime>=1.20', 'scikit-learn>=1.5',
        'zimtohrli>=0.2.1', 'imageio-ffmpeg>=0.6', 'swift-f0>=0.3',
        'mir_eval>=0.8',
    ],
    'visqol': ['visqol-python>=3.8'],  # compiles libsvm: needs a C compiler
    'bench': ['torch>=2.6', 'transformers>=5.0', 'encodec>=0.1.1'],
    'test': [
        'pytest>=8.3', 'pytest-xdist>=3.6', 'hypothesis>=6.100', 'dill>=0.3.8',
        'matplotlib>=3.9',
    ],
    'lint': ['ruff>=0.17'],
    'types': ['pyright[nodejs]>=1.1.400'],  # node comes as a wheel
    'docs': ['mkdocs>=1.6', 'mkdocs-material>=9.6'],
}
_EXTRAS['all'] = sorted(set(
    sum((_EXTRAS[k] for k in (
        'train', 'data', 'beam', 'web', 'eval', 'test', 'web_test')), [])))

setuptools.setup(
    name='musiclm_jax',
    version=_VERSION,
    description='MusicLM in JAX: text to music, every part trainable.',
    long_description=(_ROOT / 'README.md').read_text() if (
        _ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=_PACKAGES + _DATA + _GIN,
    package_dir={'musiclm_jax.data': 'data', 'musiclm_jax.gin_files': 'gin'},
    package_data={
        'musiclm_jax': ['pretrained/**/*', 'py.typed'],
        'musiclm_jax.data': ['**/*.md', '**/*.json'],
        **{name: ['*.gin'] for name in _GIN},
    },
    install_requires=[
        'jax>=0.10', 'flax>=0.12', 'numpy>=2.0', 'scipy>=1.14',
        'librosa>=0.11', 'soundfile>=0.13', 'soxr>=0.5', 'safetensors>=0.5',
        'tokenizers>=0.21', 'pyyaml>=6.0', 'pillow>=11.0', 'google-crc32c>=1.5',
    ],
    extras_require=_EXTRAS,
    entry_points={'console_scripts': ['musiclm = musiclm_jax.commands.cli:main']},
)
