"""The code location of an existing project: the definitions in the folder `defs`, and the project's executor."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions.merge(
        dg.load_from_defs_folder(project_root=Path(__file__).parents[2]),
        dg.Definitions(executor=dg.multiprocess_executor.configured({"max_concurrent": 2})),
    )
