"""Patroni's module for etcd v3 (patroni.dcs.etcd3, over the JSON gateway) against the server at HOST PORT: what two Patronis do that
share a cluster of PostgreSQL. One bootstraps it and leads; the other watches, takes over, and hands back. Then again with users."""
import json
import logging
import sys
import time
import urllib.request

from patroni.dcs import get_dcs
from patroni.dcs.etcd3 import Etcd3ClientError

address = f"{sys.argv[1]}:{sys.argv[2]}"
logging.basicConfig(level=logging.CRITICAL)


def patroni(name, scope, **more):
    """The store as one Patroni sees it."""
    etcd3 = {"hosts": [address], **more}
    config = {"scope": scope, "namespace": "/service/", "name": name, "ttl": 30, "loop_wait": 1, "retry_timeout": 10}
    return get_dcs({**config, "etcd3": etcd3})


def until(read, wanted):
    """The cluster, once the cache that a watch keeps up to date has what is wanted."""
    end = time.time() + 10
    while time.time() < end:
        cluster = read()
        if wanted(cluster):
            return cluster
        time.sleep(0.01)
    raise AssertionError(f"still {cluster}")


def elect(scope, **more):
    """From an empty store to a second leader."""
    one, two = (patroni(name, scope, **more) for name in ["one", "two"])
    cluster = one.get_cluster()
    assert cluster.is_unlocked() and cluster.initialize is None and cluster.members == [], cluster
    assert one.initialize(create_new=True, sysid="7") and not two.initialize(create_new=True, sysid="8")
    data = {"conn_url": "postgres://one", "api_url": "http://one", "state": "running", "role": "replica"}
    assert one.touch_member(data) and two.touch_member({**data, "conn_url": "postgres://two"})
    assert one.attempt_to_acquire_leader() and not two.attempt_to_acquire_leader()
    assert one.set_config_value(json.dumps({"ttl": 30})) and one.set_history_value(json.dumps([[1, 2, "x"]]))

    cluster = until(two.get_cluster, lambda cluster: cluster.leader is not None and cluster.history is not None)
    assert (cluster.initialize, cluster.leader.name, cluster.config.data) == ("7", "one", {"ttl": 30}), cluster
    assert sorted(member.name for member in cluster.members) == ["one", "two"], cluster.members
    assert cluster.leader.session == one._lease and cluster.get_member("two").session == two._lease, cluster

    # A loop of the leader: the lease is renewed, the position written; the other sees both.
    leader = one.get_cluster().leader
    assert one.update_leader(one.get_cluster(), 1234, failsafe={"one": "http://one"})
    cluster = until(two.get_cluster, lambda cluster: cluster.failsafe is not None)
    assert (cluster.status.last_lsn, cluster.failsafe) == (1234, {"one": "http://one"}), cluster
    # With a new lease the key is taken over, as after a restart: by the value that it has.
    one._lease = None
    assert one.update_leader(one.get_cluster(), 1235) and one._lease != leader.session and one.touch_member(data)
    until(two.get_cluster, lambda cluster: cluster.leader is not None and cluster.leader.session == one._lease)

    # Comparisons by revision.
    assert one.write_sync_state("one", ["two"], 0)
    sync = until(two.get_cluster, lambda cluster: cluster.sync.leader == "one").sync
    assert not two.write_sync_state("two", None, 0, version="1") and two.delete_sync_state(sync.version)
    assert two.manual_failover("one", "two")
    assert until(one.get_cluster, lambda cluster: cluster.failover is not None).failover.candidate == "two"
    assert one.manual_failover("", "")

    # The leader lets go; a watch wakes the other long before its time is over.
    begin = time.time()
    assert one.delete_leader(one.get_cluster().leader)
    two.watch(None, 30)
    assert time.time() - begin < 25
    until(two.get_cluster, lambda cluster: cluster.is_unlocked())
    assert two.attempt_to_acquire_leader() and not one.attempt_to_acquire_leader()
    assert until(one.get_cluster, lambda cluster: cluster.leader is not None).leader.name == "two"
    # By force, whoever leads.
    assert one.take_leader()
    assert until(two.get_cluster, lambda cluster: cluster.leader.name == "one").leader.session == one._lease

    # A lease that is gone is found out, and another one is made.
    one._client.call_rpc("/lease/revoke", {"ID": one._lease})
    until(two.get_cluster, lambda cluster: cluster.is_unlocked() and cluster.get_member("one", False) is None)
    assert one.attempt_to_acquire_leader() and one.touch_member(data)
    assert one.cancel_initialization() and one.delete_cluster()
    until(two.get_cluster, lambda cluster: cluster.members == [] and cluster.leader is None)
    try:
        one._client.put("/service/x", "y", "12345")
        raise AssertionError("there is no such lease")
    except Etcd3ClientError as error:
        assert error.error == "etcdserver: requested lease not found", error
    return one


def ask(path, body, token=None):
    """A request of the administrator."""
    headers = {"Authorization": token} if token else {}
    request = urllib.request.Request(f"http://{address}/v3/auth/{path}", json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=10))


elect("open")
ask("user/add", {"name": "root", "password": "secret"})
ask("user/grant", {"user": "root", "role": "root"})
ask("user/add", {"name": "patroni", "password": "p"})
ask("role/add", {"name": "patroni"})
permission = {"permType": "READWRITE", "key": "L3NlcnZpY2Uv", "range_end": "L3NlcnZpY2Uw"}
ask("role/grant", {"name": "patroni", "perm": permission})
ask("user/grant", {"user": "patroni", "role": "patroni"})
ask("enable", {})
try:
    store = elect("closed", username="patroni", password="p")
    # Another revision of users and roles makes the token old: it authenticates again.
    token = ask("authenticate", {"name": "root", "password": "secret"})["token"]
    ask("role/add", {"name": "other"}, token)
    ask("role/delete", {"role": "other"}, token)
    assert store.initialize(create_new=True, sysid="9") and store.delete_cluster()
finally:
    token = ask("authenticate", {"name": "root", "password": "secret"})["token"]
    ask("disable", {}, token)
    for name in ["patroni", "root"]:
        ask("user/delete", {"name": name})
    ask("role/delete", {"role": "patroni"})
print("patroni.dcs.etcd3", store._client._cluster_version)
