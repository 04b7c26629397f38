"""Options that say where results go: the run directory, and a data set at Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass

from ray_itl.io.hub_names import is_repository
from ray_itl.observability.settings import log_option
from ray_itl.options.checks import Check, distinct_names, one_of, text, true_or_false, whole
from ray_itl.options.declare import Options, option


@dataclass
class RunSettings(Options, group="run"):
    """Where results go."""

    dir: str | None = option(
        None,
        "Run directory. The same command on the same directory resumes an unfinished run. null: runs/<time>; of a "
        "tick, where it is kept while unfinished: in the state, else in the temporary folder.",
        decides=False,
    )
    report: bool = option(True, "Write report.html (needs the extra report).", decides=False)
    output: str = option(
        "auto",
        "jsonl, csv: besides selection.parquet, the picks as whole rows without embeddings, in selection.jsonl or "
        "selection.csv. folder: the images picked, in selection/. parquet: selection.parquet alone. auto: as the "
        "pool's files are; of a saved Hugging Face dataset jsonl.",
        one_of("auto", "parquet", "jsonl", "csv", "folder"),
        decides=False,
    )
    links: bool = option(
        True,
        "In selection/ (run.output=folder): links to the pool's images, where filesystems have them. false: copies.",
        true_or_false,
        decides=False,
    )
    push_to_hub: str | None = option(
        None,
        "Once the run is finished, make a data set of the picks at Hugging Face, as OWNER/NAME: whole rows and a data "
        "card. A tick adds its picks to those of earlier ticks. The same command again pushes what is not there yet.",
        Check("name a data set, like me/picks", lambda value: isinstance(value, str) and is_repository(value)),
        decides=False,
    )
    map_sample: int = option(2000, "Pool rows drawn in the report's map.", whole(1), decides=False)
    log: str = log_option()


@dataclass
class HubSettings(Options, group="hub"):
    """How picks are pushed to Hugging Face (run.push_to_hub). The token is that of `hf auth login`, or HF_TOKEN."""

    private: bool = option(
        True, "Whether only its owner sees the data set, where it is made.", true_or_false, decides=False
    )
    replace: bool = option(
        False, "Whether to replace what is in a data set that is there already.", true_or_false, decides=False
    )
    license: str | None = option(
        None,
        "A licence by its identifier at Hugging Face, like cc-by-4.0. null: the card says that none is stated.",
        text,
        decides=False,
    )
    columns: list[str] = option(
        [], "Columns of the pool to push, as [text,label]. []: all but the embedding.", distinct_names(), decides=False
    )
    unchecked: list[str] = option(
        [],
        "Columns whose texts may hold what looks like credentials or paths of this machine, which ends a push.",
        distinct_names(),
        decides=False,
    )
