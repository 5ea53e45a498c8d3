"""Small models of every kind with random weights, saved to disk."""

import json

import numpy as np

RATE_HZ = 24_000
_AUDIO_ENCODER = dict(
    hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
    intermediate_size=24, num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2)
_CONVOLUTIONS = dict(conv_dim=(8,) * 7)


def noise(batch, samples, seed=0):
  rng = np.random.default_rng(seed)
  return (0.3 * rng.normal(size=(batch, samples))).astype(np.float32)


def save(model, folder, extractor=None):
  model.save_pretrained(folder)
  if extractor is not None:
    extractor.save_pretrained(folder)
  return folder


def codec(kind, folder, **changes):
  """An EnCodec, DAC or Mimi of a few thousand weights."""
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  torch.manual_seed(0)
  if kind == 'encodec':
    model = transformers.EncodecModel(transformers.EncodecConfig(**{**dict(
        num_filters=4, hidden_size=16, codebook_size=32, num_lstm_layers=1,
        target_bandwidths=[0.75, 1.5, 3.0]), **changes}))
  elif kind == 'dac':
    model = transformers.DacModel(transformers.DacConfig(**{**dict(
        encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=6,
        downsampling_ratios=[2, 4, 5, 8], codebook_size=32, codebook_dim=4,
        sampling_rate=RATE_HZ), **changes}))
  else:
    model = transformers.MimiModel(transformers.MimiConfig(**{**dict(
        num_filters=4, hidden_size=16, codebook_size=32, codebook_dim=8,
        num_quantizers=6, vector_quantization_hidden_dimension=8,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=24, upsample_groups=16,
        upsampling_ratios=[8, 5, 4, 3]), **changes}))
  model.eval()
  with torch.no_grad():
    for name, buffer in model.named_buffers():
      if name.endswith(('codebook.embed', 'embed_sum')):
        buffer.normal_(0, 0.01)  # they begin as zeros: all codes would be one
    if kind == 'encodec' and not changes:  # its latents hardly move
      latents = model.encoder(torch.tensor(noise(1, 32 * 320))[:, None])[0]
      first = model.quantizer.layers[0].codebook.embed
      first.copy_(latents.T)
  return save(model, folder)


def encoder(kind, folder, **changes):
  """A wav2vec 2.0 relative of three blocks, and its feature extractor."""
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  torch.manual_seed(0)
  if kind == 'wav2vec2-bert':
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=24, feature_projection_input_dim=160, **changes)
    return save(transformers.Wav2Vec2BertModel(config), folder,
                transformers.SeamlessM4TFeatureExtractor())
  rate = RATE_HZ if kind == 'mert' else 16_000
  classes = dict(
      wav2vec2='Wav2Vec2', hubert='Hubert', mert='Hubert', wavlm='WavLM',
      conformer='Wav2Vec2Conformer', data2vec='Data2VecAudio')
  config = getattr(transformers, f'{classes[kind]}Config')(
      **{**_AUDIO_ENCODER, **_CONVOLUTIONS, **changes})
  save(getattr(transformers, f'{classes[kind]}Model')(config), folder,
       transformers.Wav2Vec2FeatureExtractor(
           sampling_rate=rate, do_normalize=True))
  if kind == 'mert':  # as its authors' code would name it
    path = folder / 'config.json'
    path.write_text(json.dumps(
        dict(json.loads(path.read_text()), model_type='mert_model')))
  return folder


def clap(folder, **changes):
  """A CLAP of two small towers, and a tokenizer of a few words."""
  import tokenizers  # pylint: disable=g-import-not-at-top
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  torch.manual_seed(0)
  config = transformers.ClapConfig(
      text_config=dict(
          vocab_size=40, hidden_size=16, num_hidden_layers=1,
          num_attention_heads=2, intermediate_size=16,
          max_position_embeddings=20),
      audio_config=dict(
          spec_size=64, num_mel_bins=16, patch_embeds_hidden_size=8,
          hidden_size=16, depths=[1, 1], num_attention_heads=[2, 2],
          window_size=2, **changes),
      projection_dim=12)
  extractor = transformers.ClapFeatureExtractor(
      feature_size=16, hop_length=1920, truncation='rand_trunc')
  save(transformers.ClapModel(config), folder, extractor)
  words = {w: i for i, w in enumerate(
      ['<s>', '<pad>', '</s>', '<unk>', 'a', 'tune', 'lively', 'slow'])}
  made = tokenizers.Tokenizer(
      tokenizers.models.WordLevel(words, unk_token='<unk>'))
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  transformers.PreTrainedTokenizerFast(
      tokenizer_object=made, pad_token='<pad>', unk_token='<unk>',
      bos_token='<s>', eos_token='</s>').save_pretrained(folder)
  return folder
