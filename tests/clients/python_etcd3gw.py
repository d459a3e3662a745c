"""etcd3gw, a client of the JSON gateway, against the server at HOST PORT: put, get, watch, lease, lock, transactions, members."""
import sys
import threading

import etcd3gw

client = etcd3gw.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=10, api_path=None)
assert client.api_path == "/v3/", client.api_path
prefix = "/clients/etcd3gw/"

assert client.put(prefix + "a", "1") and client.get(prefix + "a") == [b"1"]
assert client.get(prefix + "none") == [] and client.get(prefix + "a", serializable=True, count_only=True) == []
value, meta = client.get(prefix + "a", metadata=True)[0]
assert (value, meta["key"], meta["version"]) == (b"1", (prefix + "a").encode(), "1"), meta
for name in ["c", "b"]:
    assert client.create(prefix + name, name) and not client.create(prefix + name, "again")
listed = client.get_prefix(prefix, sort_order="descend", sort_target="key")
assert [value for value, _ in listed] == [b"c", b"b", b"1"], listed
assert [value for value, _ in client.get_all(sort_order="ascend")][:1] != [] and len(client.get_all()) >= 3
assert client.replace(prefix + "a", "1", "2") and not client.replace(prefix + "a", "1", "3")

revision = int(client.status()["header"]["revision"])
events, cancel = client.watch_prefix(prefix + "watched/", start_revision=revision + 1, prev_kv=True)
client.put(prefix + "watched/a", "1")
client.put(prefix + "watched/a", "2")
client.delete(prefix + "watched/a")
seen = [next(events) for _ in range(3)]
assert [event.get("type", "PUT") for event in seen] == ["PUT", "PUT", "DELETE"], seen
assert [event["kv"].get("value") for event in seen] == [b"1", b"2", None] and "prev_kv" in seen[2], seen
cancel()
timer = threading.Timer(0.2, lambda: client.put(prefix + "once", "3"))
timer.start()
assert client.watch_once(prefix + "once", timeout=10)["kv"]["value"] == b"3"
timer.join()
try:
    client.watch_once(prefix + "silent", timeout=0.2)
    raise AssertionError("nothing has happened there")
except etcd3gw.exceptions.WatchTimedOut:
    pass

lease = client.lease(ttl=30)
client.put(prefix + "leased", "4", lease=lease)
assert 0 < lease.ttl() <= 30 and lease.refresh() == 30 and lease.keys() == [(prefix + "leased").encode()]
assert lease.revoke() and client.get(prefix + "leased") == [] and lease.refresh() == -1 and lease.ttl() == -1

with client.lock("clients", ttl=30) as lock:
    assert lock.is_acquired() and lock.refresh() == 30
    assert not client.lock("clients", ttl=30).acquire()
assert not lock.is_acquired()

try:
    client.transaction({"success": [{"request_put": {"key": ""}}]})
    raise AssertionError("a put needs a key")
except etcd3gw.exceptions.Etcd3Exception as error:
    assert "key is not provided" in error.detail_text, error.detail_text
assert len(client.members()) == 1 and client.status()["leader"] == client.members()[0]["ID"]
assert client.delete_prefix(prefix) and not client.delete(prefix + "a")
print("etcd3gw", client.status()["version"])
