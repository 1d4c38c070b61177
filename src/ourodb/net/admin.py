"""The admin port: metrics for Prometheus, the node's state and snapshots as JSON, rows that are restored as bytes.

The port is taken when the node starts; the HTTP library behind it is loaded only after the node has said that
it is ready, since no CQL client should wait for it. What connects earlier waits in the socket's backlog.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ourodb import limits
from ourodb.errors import ConfigurationProblem, OuroError, Overloaded, RequestError

if TYPE_CHECKING:
    from aiohttp import web

Reply = Mapping[str, Any]
Action = Callable[[Mapping[str, Any]], "Reply | Awaitable[Reply]"]
Upload = Callable[[bytes], Awaitable[Reply]]

BODY_BYTES_MAX = 64 * 1024
BODY_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 1.0
"""For so long a request that is under way is waited for when the node stops."""
BACKLOG = 64


class AdminServer:
    """Serves functions that it is given; knows nothing of what they do.

    Attributes:
        routes: (method, path) to a function from the JSON body to the JSON reply. A function that raises
        ``OuroError`` is
            answered with status 400 and its message.
        metrics: name to (help, kind, value), asked for at each scrape; kind is counter or gauge.
        uploads: path to a function from a POST's body, any bytes, to the JSON reply. ``OuroError`` as above, or with
            status 503 where trying again makes sense. Their number, length and time are bounded.
    """

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Action],
        metrics: Callable[[], Mapping[str, tuple[str, str, float]]],
        uploads: Mapping[str, Upload] | None = None,
    ) -> None:
        self.routes = routes
        self.metrics = metrics
        self.uploads = uploads or {}
        self._uploading = 0
        self._bodies: dict[asyncio.Task[bytes], None] = {}
        self._ending = False
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._loading: asyncio.Task[None] | None = None

    def take_port(self, address: str, port: int) -> int:
        """Bind and listen; returns the port (which matters when 0 was asked for).

        Raises:
            ConfigurationProblem: it can't be had.
        """
        try:
            family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
            taken = socket.socket(family, socket.SOCK_STREAM)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((address, port))
            taken.listen(BACKLOG)
        except OSError as error:
            raise ConfigurationProblem(
                f"port {port} on {address} can't be had ({error.strerror}); choose another one with --admin-port"
            ) from error
        self._socket = taken
        return int(taken.getsockname()[1])

    def start(self) -> None:
        """Begin to answer, in the background."""
        self._loading = asyncio.get_running_loop().create_task(self._serve())

    async def stop(self) -> None:
        if self._loading is not None:
            await self._loading
        # Nothing is read from now on: a body that isn't there yet won't come.
        self._ending = True
        for body in self._bodies:
            body.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, importlib.import_module, "aiohttp.web")
        from aiohttp import web

        application = web.Application(client_max_size=BODY_BYTES_MAX)
        for (method, path), action in self.routes.items():
            application.router.add_route(method, path, _handler(action))
        for path, upload in self.uploads.items():
            application.router.add_post(path, self._upload_handler(upload))
        application.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS_MAX)
        await self._runner.setup()
        assert self._socket is not None
        await web.SockSite(self._runner, self._socket).start()

    def _upload_handler(self, upload: Upload) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            from aiohttp import web

            length = request.content_length
            if length is None or length > limits.RESTORE_UPLOAD_BYTES_MAX:
                reason = f"the body must have a length, and at most {limits.RESTORE_UPLOAD_BYTES_MAX} bytes"
                return web.json_response({"error": reason}, status=413)
            if self._uploading == limits.RESTORE_UPLOADS_MAX:
                return web.json_response({"error": "too much is being restored at a time"}, status=503)
            self._uploading += 1
            try:
                return web.json_response(dict(await upload(await self._body(request, length))))
            except (TimeoutError, asyncio.IncompleteReadError):
                return web.json_response({"error": "the body didn't come"}, status=408)
            except OuroError as error:
                again = isinstance(error, RequestError) and error.retryable
                return web.json_response({"error": str(error)}, status=503 if again else 400)
            finally:
                self._uploading -= 1

        return handle

    async def _body(self, request: web.Request, length: int) -> bytes:
        """The body of an upload.

        Raises:
            TimeoutError, asyncio.IncompleteReadError: it didn't come.
            Overloaded: this server is stopped meanwhile.
        """
        if self._ending:
            raise Overloaded("this node is stopping")
        if not length:
            return b""
        reading = asyncio.ensure_future(request.content.readexactly(length))
        self._bodies[reading] = None
        try:
            async with asyncio.timeout(limits.RESTORE_UPLOAD_SECONDS_MAX):
                return await reading
        except asyncio.CancelledError:
            if self._ending:
                raise Overloaded("this node is stopping") from None
            raise
        finally:
            del self._bodies[reading]

    async def _scrape(self, request: web.Request) -> web.Response:
        from aiohttp import web
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
        from prometheus_client.exposition import generate_latest
        from prometheus_client.registry import CollectorRegistry

        metrics = self.metrics()

        class Collector:
            def collect(self) -> list[Any]:
                families = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
                return [
                    families[kind](name, text, value=value) for name, (text, kind, value) in metrics.items()
                ]

        registry = CollectorRegistry()
        registry.register(Collector())
        return web.Response(body=generate_latest(registry), content_type="text/plain")


def _handler(action: Action) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        from aiohttp import web

        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                read = await request.read()
            body = json.loads(read) if read else {}
        except TimeoutError:
            return web.json_response({"error": "the body didn't come"}, status=408)
        except (ValueError, RecursionError) as error:
            return web.json_response({"error": f"the body isn't valid JSON: {error}"}, status=400)
        if not isinstance(body, dict):
            return web.json_response({"error": "the body must be a JSON object"}, status=400)
        try:
            reply = action(body)
            return web.json_response(dict(await reply if isinstance(reply, Awaitable) else reply))
        except OuroError as error:
            return web.json_response({"error": str(error)}, status=400)

    return handle
