"""Other people's pretrained models behind our contracts (contracts.py).

  options    'hf:DIR:layer=7' -> what was asked for
  hub        a local checkpoint directory -> its model
  waveforms  rates and pieces
  streaming  streams for codecs that know whole signals only
  codecs     EnCodec, DAC, Mimi -> Codec
  semantic   w2v-BERT 2.0, HuBERT, MERT, wav2vec 2.0 ... -> SemanticTokenizer
  joint      CLAP -> JointEmbedder
  fits       k-means and RVQ fitted by us, stored with the cache
  registry   all of the above for `musiclm precompute`

torch and transformers (the `hf` extra) are imported inside functions only, and
nothing is ever downloaded.
"""
