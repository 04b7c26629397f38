"""Encodings of any column by the encoder that options name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from ray_itl.embedding.cached import CachedEncoding
from ray_itl.embedding.encoder import Encoder
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.embedding.held_function import HeldFunction, HeldFunctionEncoder
from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.option_names import in_names_of_selection, renaming_options
from ray_itl.embedding.settings import EmbeddingModelSettings, EmbeddingSettings
from ray_itl.embedding.store import StoreOptions
from ray_itl.text import parse_size


class CachedEncodings:
    """Encodings of any column by the encoder of some options, which is loaded once, when it is first needed."""

    def __init__(
        self,
        settings: EncoderSettings,
        device: str,
        tell: Callable[[str], object] = lambda _: None,
        held: HeldFunction | None = None,
    ) -> None:
        """Take the options, `name` among them.

        Args:
            settings: The options.
            device: As of `open_encoder`.
            tell: Told, in a line, what people should know.
            held: The function that the name stands for, where the caller holds one.
        """
        self._settings, self._device, self._tell, self._held = settings, device, tell, held
        own = None if held is None else held.location
        self._options = StoreOptions(own or settings.cache, parse_size("encoder.cache_limit", settings.cache_limit))
        self._encoder: Encoder | None = None
        self.remarks: list[str] = []
        """What users should know of how the columns are read that it embeds, each line once."""

    @property
    def is_used(self) -> bool:
        """Whether anything is embedded by it."""
        return self._encoder is not None

    def on(self, column: str, kind: pa.DataType, sample: Callable[[], pa.Array]) -> CachedEncoding:
        """See `MakesEncodings.on`."""
        if self._encoder is None:
            self._tell(f"loading the encoder {self._settings.name}" if self._held is None else self._held.words)
            with renaming_options():
                self._encoder = self._open(sample)
            for note in self._encoder.notes:
                self._tell(in_names_of_selection(note))
        remarks = [in_names_of_selection(words) for words in self._encoder.remarks(kind)]
        self.remarks += [words for words in remarks if words not in self.remarks]
        return CachedEncoding(self._encoder, self._options, column)

    def _open(self, sample: Callable[[], pa.Array]) -> Encoder:
        chosen = self._settings
        model = EmbeddingModelSettings(
            str(chosen.name), chosen.options, chosen.checkpoint, checkpoints=chosen.checkpoints
        )
        how = EmbeddingSettings(
            chosen.kind,
            chosen.unit_norm,
            chosen.projection_dim,
            batch_size=chosen.batch_size,
            batch_tokens=chosen.batch_tokens,
            precision=chosen.precision,
        )
        if self._held is not None:
            return HeldFunctionEncoder(self._held, how, self._held.function, sample())
        # Of others than functions no rows decide anything, lest the same model be another one on another pool.
        values = sample() if ":" in model.name and not Path(model.name).exists() else None
        return open_encoder(model, how, self._device, values)
