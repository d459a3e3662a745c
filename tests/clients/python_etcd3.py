"""python-etcd3 against the server at HOST PORT: put, get, watch, lease, lock, transaction, users' status of the member."""
import queue
import sys

import etcd3

client = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=10)
prefix = "/clients/python/"

client.put(prefix + "a", "1")
value, meta = client.get(prefix + "a")
assert value == b"1" and meta.key == (prefix + "a").encode(), (value, meta)
assert [value for value, _ in client.get_prefix(prefix)] == [b"1"]

events = queue.Queue()
watch = client.add_watch_prefix_callback(prefix, lambda response: [events.put(event) for event in response.events])
client.put(prefix + "b", "2")
client.delete(prefix + "b")
put, delete = events.get(timeout=10), events.get(timeout=10)
assert isinstance(put, etcd3.events.PutEvent) and put.value == b"2", put
assert isinstance(delete, etcd3.events.DeleteEvent), delete
client.cancel_watch(watch)

lease = client.lease(30)
client.put(prefix + "leased", "3", lease=lease)
assert 0 < lease.remaining_ttl <= 30 and lease.keys == [(prefix + "leased").encode()], lease.keys
assert [answer.TTL for answer in lease.refresh()] == [30]
lease.revoke()
assert client.get(prefix + "leased") == (None, None)

done, answers = client.transaction(
    compare=[client.transactions.value(prefix + "a") == "1", client.transactions.version(prefix + "none") == 0],
    success=[client.transactions.put(prefix + "a", "4"), client.transactions.get(prefix + "a")],
    failure=[],
)
assert done and answers[1][0][0] == b"4", answers

with client.lock(prefix + "lock", ttl=30) as lock:
    assert lock.is_acquired()
    other = client.lock(prefix + "lock", ttl=30)
    assert not other.acquire(timeout=1)
assert not lock.is_acquired()

assert len(list(client.members)) == 1
assert client.status().leader.id == list(client.members)[0].id
client.delete_prefix(prefix)
print("python etcd3", etcd3.__version__)
