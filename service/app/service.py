"""The BentoML service: lifecycle around `service.serving.engine`, routes from `service.app.routes`.

`consilium serve MODEL` and `bentoml serve service.app.service:Consilium --host 127.0.0.1` run this. The supervisor
imports this module too, so that torch and the model come in only where a worker starts.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import bentoml
from bentoml.exceptions import BentoMLConfigException

from consilium.domain.errors import ConsiliumError
from consilium.system.environment import provide_account
from service.app import binding, connections
from service.app.routes import create_app
from service.audit_log.database import read_url, refuse_unusable
from service.audit_log.pseudonyms import read_keys
from service.auth.guard import Guard, refuse_unguarded
from service.auth.middleware import Authentication
from service.http.unrouted import Unrouted
from service.observability import logs
from service.observability.tracing import tracing
from service.observability.traffic import Traffic
from service.page.page import Page
from service.serving import garbage_collection as garbage
from service.settings import Settings, load_settings, unknown_names

if TYPE_CHECKING:
    from service.app.lifecycle import Lifecycle

logger = logging.getLogger("consilium.service")

_BACKSTOP_S = 600
"""BentoML's own time limit. The settings' limits end a request before it and answer with a problem document."""

# Where the supervisor was not started by `consilium serve`, which has done it.
provide_account()
app = create_app()
guard = Guard()
limits = connections.Limits()


@bentoml.service(
    name="consilium",
    workers=1,
    traffic={"timeout": _BACKSTOP_S},
    # BentoML's own show each path as the caller wrote it; `service.observability` stands for them.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    # Nor are there spans of BentoML's: made for every part of a body, they took a fourth of the event loop's time.
    tracing={"excluded_urls": [".*"]},
)
@bentoml.asgi_app(app, path="/")
class Consilium:
    """A calibrated, explained diagnosis from radiographs, clinical notes and observations. No certified device."""

    def __init__(self) -> None:
        self._lifecycle: Lifecycle | None = None
        self._starting: asyncio.Task[None] | None = None

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """In the supervisor, before a port is taken: refuse to start where that would be wrong."""
        try:
            settings = load_settings()
            logs.configure(settings.log_format)
            for name, nearest in unknown_names(os.environ).items():
                logger.warning("%s is no setting and is ignored; the nearest is %s", name, nearest)
            refuse_unguarded(settings)
            read_keys(settings.audit_log_keys)
            refuse_unusable(read_url(settings.audit_log_url.get_secret_value()))
            if settings.insecure:
                binding.refuse_open_host()
        except ConsiliumError as error:
            raise BentoMLConfigException(str(error)) from None
        binding.fail_with_worker()

    @bentoml.on_startup
    async def start(self) -> None:
        """In the worker: begin to load the model. It is alive at once, ready once model and audit log are there."""
        if binding.is_supervised():
            binding.die_with_supervisor()
        try:
            settings = load_settings()
            logs.configure(settings.log_format)
            if settings.insecure:
                binding.refuse_open_sockets()
            guard.start(settings)
            if settings.studies:
                app.state.page = Page(settings, guard)
            tracing.start(settings.otlp_endpoint, settings.traced_share)
            limits.header_timeout_s, limits.most_open = settings.header_timeout_s, settings.max_connections
        except ConsiliumError as error:
            binding.give_up(str(error))
            raise
        self._starting = asyncio.create_task(self._start(settings))

    async def _start(self, settings: Settings) -> None:
        from service.app.lifecycle import Lifecycle

        lifecycle = Lifecycle(settings, metrics=app.state.metrics)
        try:
            await lifecycle.start()
        except ConsiliumError as error:
            binding.give_up(str(error))
        except Exception as error:
            # Nobody has sent anything yet, so the message quotes nobody.
            logger.exception("the model could not be made ready")
            binding.give_up(f"{type(error).__name__}: {error}")
        else:
            await asyncio.to_thread(garbage.set_aside, collect=True)
            self._lifecycle = app.state.lifecycle = lifecycle

    async def __is_ready__(self) -> bool:
        return self._lifecycle is not None and self._lifecycle.ready

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Answer what was admitted, then end the model's thread and the decode pool."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        app.state.lifecycle = None
        if self._lifecycle is not None:
            await self._lifecycle.stop()
            self._lifecycle = None
        await guard.stop()
        if app.state.page is not None:
            app.state.page.close()
            app.state.page = None
        await asyncio.to_thread(tracing.stop)


# BentoML's decorator has made a `bentoml.Service` of the class, which its types do not show.
# The first middleware is the outermost.
Consilium.add_asgi_middleware(connections.ConnectionLimits, limits=limits)  # type: ignore[attr-defined]
Consilium.add_asgi_middleware(Traffic, routes=app.routes, metrics=app.state.metrics)  # type: ignore[attr-defined]
Consilium.add_asgi_middleware(Authentication, guard=guard)  # type: ignore[attr-defined]
Consilium.add_asgi_middleware(Unrouted)  # type: ignore[attr-defined]
