"""BERT-base and MiniLM checkpoints: our tower against `transformers`."""

import numpy as np
import pytest

from musiclm_jax.nn import text_encoder

pytestmark = pytest.mark.hf

_WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'lively', 'jig',
          'slow', 'air', 'on', 'the', 'fiddle', '##s', ',']
_TEXTS = ['a lively jig on the fiddle', 'slow', 'a slow air, on the fiddles '
          'the lively jigs']


def save(folder, sizes, head=False):
  """A BERT with random weights and its tokenizer, saved by `transformers`."""
  import tokenizers  # pylint: disable=g-import-not-at-top
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  torch.manual_seed(0)
  config = transformers.BertConfig(
      **dict(vocab_size=len(_WORDS), max_position_embeddings=32, **sizes))
  model = (transformers.BertForMaskedLM if head else transformers.BertModel)(
      config)
  with torch.no_grad():  # biases and norms begin as zeros and ones
    for parameter in model.parameters():
      parameter.add_(0.05 * torch.randn_like(parameter))
  model.save_pretrained(folder)
  made = tokenizers.Tokenizer(tokenizers.models.WordPiece(
      {w: i for i, w in enumerate(_WORDS)}, unk_token='[UNK]'))
  made.normalizer = tokenizers.normalizers.BertNormalizer()
  made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  made.post_processor = tokenizers.processors.BertProcessing(
      ('[SEP]', 3), ('[CLS]', 2))
  transformers.PreTrainedTokenizerFast(
      tokenizer_object=made, pad_token='[PAD]', unk_token='[UNK]',
      cls_token='[CLS]', sep_token='[SEP]').save_pretrained(folder)
  return model.bert if head else model


def expected(folder, model, pooling):
  """Pooled features by transformers alone, tokenizer and mask included."""
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  inputs = tokenizer(_TEXTS, padding=True, return_tensors='pt',
                     return_token_type_ids=False)
  with torch.inference_mode():
    states = model.eval()(**inputs).last_hidden_state
  if pooling == 'cls':
    return states[:, 0].numpy()
  weights = inputs['attention_mask'][..., None]
  return ((states * weights).sum(1) / weights.sum(1)).numpy()


# The shapes of MiniLM-L6 and BERT-base; only their vocabulary is small.
SIZES = {
    'minilm': dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                   intermediate_size=1536),
    'bert_base': dict(hidden_size=768, num_hidden_layers=12,
                      num_attention_heads=12, intermediate_size=3072)}


@pytest.mark.parametrize('pooling', text_encoder.POOLINGS)
@pytest.mark.parametrize('size', sorted(SIZES))
def test_parity(tmp_path, size, pooling):
  model = save(tmp_path, SIZES[size])
  encoder = text_encoder.FrozenTextEncoder(str(tmp_path), pooling)
  assert encoder.config.dim == SIZES[size]['hidden_size']
  found = encoder(_TEXTS)
  np.testing.assert_allclose(
      found, expected(tmp_path, model, pooling), atol=1e-4)
  assert np.max(np.abs(found[0] - found[2])) > 1e-2


def test_a_checkpoint_with_a_head(tmp_path):
  sizes = dict(SIZES['minilm'], num_hidden_layers=2)
  model = save(tmp_path, sizes, head=True)
  encoder = text_encoder.FrozenTextEncoder(str(tmp_path), 'mean')
  np.testing.assert_allclose(
      encoder(_TEXTS), expected(tmp_path, model, 'mean'), atol=1e-4)
