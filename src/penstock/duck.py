"""DuckDB as the oracle and the ledger use it: in memory, within what the process may have."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import duckdb

#: Of the memory of the machine, or of the container.  DuckDB's own default, four fifths, leaves too little for what it
#: is handed and for the process around it: a container would be killed, where DuckDB could have used its disk.
SHARE = "30%"


def connect() -> duckdb.DuckDBPyConnection:
    """Return a database in memory; what does not fit goes to the directory for temporary files."""
    # Its default is a directory beside the caller, who may not be allowed to write there.  Each database has one of its
    # own: files are named alike, whoever writes them.  DuckDB makes it when it is needed, and takes it away.
    spill = Path(tempfile.gettempdir()) / f"penstock-duckdb-{secrets.token_hex(8)}"
    return duckdb.connect(config={"memory_limit": SHARE, "temp_directory": str(spill)})
