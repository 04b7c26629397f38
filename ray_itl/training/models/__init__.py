"""The models that come along: classifiers, efficientnet, sentence_encoder and language_model (read by pretrained)."""
