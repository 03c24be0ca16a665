"""`python -m owm_compute`: reads the settings and serves until told to stop.

`… methods` prints the merge methods and `… sources` what their inputs are read as, for the edge to keep.
"""

from __future__ import annotations

import logging
import sys

import uvicorn

from owm_compute.api.app import create_app
from owm_compute.errors import ComputeError
from owm_compute.jobs.sandbox import hide_memory
from owm_compute.logs import configure_logging
from owm_compute.service import Service
from owm_compute.settings import read_settings


class _Server(uvicorn.Server):
    """Wakes long polls and event streams when the process is told to stop, so that they don't hold it up."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: object = None) -> None:
        self._service.changes.stop()
        await super().shutdown()


def main() -> int:
    """Exit status: 0 after a signal, 2 when a setting is missing or wrong."""
    if sys.argv[1:] in (["methods"], ["sources"]):
        # Only here: both import torch, which the serving process never holds.
        from owm_compute.merge import catalog as methods
        from owm_compute.tensors import catalog as sources

        print((methods if sys.argv[1] == "methods" else sources).render(), end="")
        return 0
    configure_logging()
    log = logging.getLogger("owm_compute")
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        hide_memory()
        service = Service(settings)
    except ComputeError as error:
        log.error(error.message, extra={"data": error.as_json()})
        return 2
    config = uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    _Server(config, service).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
