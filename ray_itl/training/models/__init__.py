"""The models that come along: classifiers, efficientnet, sentence_encoder, language_model."""
