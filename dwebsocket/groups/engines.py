"""How Redis is reached: one server, Sentinel's master, or a Cluster.

An engine publishes, runs commands, and makes connections for subscribers.  A *place* is
where a channel is published: "" but in a Cluster, where it is the name of a node and
channels are sharded (Redis 7: SSUBSCRIBE, SPUBLISH).

Read in redis-py 5.0, 7.1 and 8.1; ``Redis.from_pool`` came with 5.0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import redis
from django.core.exceptions import ImproperlyConfigured
from gevent import get_hub, monkey
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

__all__ = ["ERRORS", "ClusterEngine", "Engine", "make_engine"]

#: What the engine's failures raise.  A command that was sent may have been carried out.
ERRORS = (redis.RedisError, RedisClusterException, OSError)


class Engine:
    """One Redis server, or the one that is Sentinel's master."""

    #: "S" where channels are sharded.
    prefix = ""

    def __init__(self, make_client: Callable[[], Any]) -> None:
        self._make_client = make_client
        self._clients: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._lock = Lock()

    @property
    def client(self) -> Any:
        """The client of redis-py; that of a Cluster connects when it is made."""
        owner = self._find_owner()
        client = self._clients.get(owner)
        if client is None:
            with self._lock:
                client = self._clients.get(owner)
                if client is None:
                    client = self._clients[owner] = self._make_client()
        return client

    def _find_owner(self) -> object:
        # A connection of gevent's is that of one thread.
        return get_hub() if monkey.is_module_patched("socket") else self

    @property
    def is_ready(self) -> bool:
        """Whether ``find_place`` answers without waiting."""
        return True

    def publish(self, channel: bytes, data: bytes) -> int:
        """Publish; return how many connections got it."""
        return int(self.client.execute_command(f"{self.prefix}PUBLISH", channel, data))

    def find_place(self, channel: bytes) -> str:
        """Return where a channel is published."""
        return ""

    def find_places(self) -> list[str]:
        """Return where channels may be published now."""
        return [""]

    def make_connection(self, place: str) -> Any:
        """Return a connection that isn't connected, of ``redis.Connection``."""
        pool = self.client.connection_pool
        return pool.connection_class(**pool.connection_kwargs)

    def make_probe_channel(self, place: str, name: bytes) -> bytes:
        """Return a channel that is published at the place."""
        return name

    def refresh(self) -> None:
        """Find out anew what is where."""

    def close(self) -> None:
        """Close all connections but those of ``make_connection``."""
        for client in list(self._clients.values()):
            client.close()


class ClusterEngine(Engine):
    """A Redis Cluster: each of its primaries publishes the channels of its slots."""

    prefix = "S"

    @property
    def is_ready(self) -> bool:
        return self._find_owner() in self._clients

    def find_place(self, channel: bytes) -> str:
        return str(self.client.get_node_from_key(channel).name)

    def find_places(self) -> list[str]:
        return [node.name for node in self.client.get_primaries()]

    def make_connection(self, place: str) -> Any:
        node = self.client.get_node(node_name=place)
        if node is None:
            raise redis.ConnectionError(f"{place} isn't in the cluster any more")
        pool = self.client.get_redis_connection(node).connection_pool
        return pool.connection_class(**pool.connection_kwargs)

    def make_probe_channel(self, place: str, name: bytes) -> bytes:
        for number in range(1_000_000):
            channel = b"%b:%d" % (name, number)
            if self.find_place(channel) == place:
                return channel
        raise redis.ConnectionError(f"{place} has no slots")

    def refresh(self) -> None:
        is_new = not self.is_ready
        nodes_manager = self.client.nodes_manager
        if not is_new:
            nodes_manager.initialize()


def make_engine(
    location: Any, options: Mapping[str, Any], timeout: float, max_connections: int
) -> Engine:
    """Make the engine that LOCATION and OPTIONS of WEBSOCKET_GROUPS describe.

    ``timeout`` is in seconds, for each step: connecting, sending, receiving.
    """
    common: dict[str, Any] = {
        # Lists for everything, also where a server could push.
        "protocol": 2,
        # Whether a command was carried out isn't known after an error: publishing
        # again could deliver twice.
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": timeout,
        "socket_timeout": timeout,
        **options.get("connection", {}),
    }
    if "sentinels" in options:
        service = _need(options, "service")
        sentinel_connection = {
            # One that is away must not use up the time in which the next can answer.
            "retry": common["retry"],
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout,
            **options.get("sentinel_connection", {}),
        }

        def make_client() -> Any:
            sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
                options["sentinels"], sentinel_kwargs=sentinel_connection, **common
            )
            return sentinel.master_for(service)

        return Engine(make_client)
    url = location or "redis://127.0.0.1:6379"
    if options.get("cluster"):
        return ClusterEngine(lambda: RedisCluster.from_url(url, **common))
    return Engine(
        lambda: redis.Redis.from_pool(
            redis.BlockingConnectionPool.from_url(
                url, max_connections=max_connections, timeout=timeout, **common
            )
        )
    )


def _need(options: Mapping[str, Any], name: str) -> Any:
    try:
        return options[name]
    except KeyError as exc:
        raise ImproperlyConfigured(
            f"WEBSOCKET_GROUPS: OPTIONS needs {name!r} beside 'sentinels'."
        ) from exc
