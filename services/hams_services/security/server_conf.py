"""Configurations of nats-server: of a single broker, of one in a cluster, and of a leaf. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hams_services.security.roles import ACCOUNT, DOMAIN

ROUTE_PORT = 6222
LEAF_PORT = 7422

_SERVER = """\
# Created by `hams-ctl init`, for `nats-server -c {folder}/nats.conf`, as in a container of the official image.
listen: "0.0.0.0:4222"
http: "127.0.0.1:8222"  # health checks, from this host only
max_payload: {max_payload}
max_pending: 256MB
write_deadline: "10s"
ping_interval: "5s"
ping_max: 3
tls {{
  cert_file: "{folder}/broker.crt"
  key_file: "{folder}/broker.key"
  min_version: "1.2"
  handshake_first: auto  # clients may start with TLS, as those of HAMS do
}}
include "accounts.conf"
"""

_STORE = """\
jetstream {{
  store_dir: "{store}"
  max_file_store: 1PB  # the disk is the limit; the default does not count what the store itself uses
  sync_interval: always{domain}
}}
"""

_MUTUAL = """\
# TLS between brokers: each presents a certificate of the site's authority.
cert_file: "{folder}/broker.crt"
key_file: "{folder}/broker.key"
ca_file: "{folder}/ca.crt"
verify: true
min_version: "1.2"
"""

_CLUSTER = """\
# Written by `hams-ctl init` at each run: changes here are lost. This broker is one of those of `routes`.
server_name: "{name}"
cluster {{
  name: hams
  listen: "0.0.0.0:{route_port}"
  routes: [{routes}]
  advertise: "{host}:{route_port}"
  no_advertise: true  # clients know the names of all brokers; addresses inside a container do not help them
  tls {{ include "tls.conf" }}
  # Leaves have certificates of the authority, too; only members know this password.
  authorization {{ user: {user}, password: "{password}" }}
}}
leafnodes {{
  listen: "0.0.0.0:{leaf_port}"
  no_advertise: true
  tls {{ include "tls.conf" }}
}}
"""

_LEAF = """\
# Written by `hams-ctl init` at each run: changes here are lost. Secret: it holds this broker's key for the cluster.
# It stores nothing: the buckets are in the cluster. After a cut of the link it reconnects, without end.
server_name: "{name}"
default_js_domain: {{ {account}: {domain} }}  # JetStream requests of clients go to the cluster
leafnodes {{
  reconnect: "1s"
  remotes: [{{
    urls: [{urls}]
    account: {account}
    nkey: "{seed}"
    tls {{ include "tls.conf" }}
  }}]
}}
"""

_MEMBER = "hams-broker"
"""The user name of a cluster's brokers to each other."""


@dataclass(frozen=True)
class Place:
    """The folder of a broker's files, its store, and its largest message in bytes."""

    folder: str
    store: str
    max_payload: int


def alone(place: Place) -> str:
    """Return ``nats.conf`` of a single broker."""
    return _server(place) + _STORE.format(store=place.store, domain="")


def member(place: Place) -> str:
    """Return ``nats.conf`` of a broker of a cluster."""
    return (
        _server(place) + _STORE.format(store=place.store, domain=f"\n  domain: {DOMAIN}") + 'include "cluster.conf"\n'
    )


def leaf(place: Place) -> str:
    """Return ``nats.conf`` of a leaf."""
    return _server(place) + 'include "leaf.conf"\n'


def mutual_tls(place: Place) -> str:
    """Return ``tls.conf``, which the two below include."""
    return _MUTUAL.format(folder=place.folder)


def cluster_conf(name: str, members: Iterable[str], password: str) -> str:
    """Return ``cluster.conf`` of broker `name` among `members` (names or addresses), which share `password`."""
    routes = _urls((f"{_MEMBER}:{password}@{_host(host)}" for host in members), ROUTE_PORT)
    return _CLUSTER.format(
        name=name,
        host=_host(name),
        routes=routes,
        route_port=ROUTE_PORT,
        leaf_port=LEAF_PORT,
        user=_MEMBER,
        password=password,
    )


def leaf_conf(name: str, hubs: Iterable[str], seed: str) -> str:
    """Return ``leaf.conf`` of leaf `name` of the cluster of `hubs`; it authenticates with `seed`."""
    return _LEAF.format(
        name=name,
        account=ACCOUNT,
        domain=DOMAIN,
        urls=_urls(map(_host, hubs), LEAF_PORT),
        seed=seed,
    )


def _server(place: Place) -> str:
    return _SERVER.format(folder=place.folder, max_payload=place.max_payload)


def _urls(hosts: Iterable[str], port: int) -> str:
    return ", ".join(f'"tls://{host}:{port}"' for host in hosts)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
