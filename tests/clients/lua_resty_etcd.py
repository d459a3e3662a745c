"""What lua-resty-etcd 1.10.5 (APISIX) sends to the JSON gateway, against the server at HOST PORT, and what it reads of the answers.

The library runs inside OpenResty; these are its requests as they are on the wire: no content type, all fields of a range even where
they are zero, enums as numbers, camelCase inside transactions, slashes escaped by cjson, and no body where it has nothing to say."""
import base64
import http.client
import json
import sys

host, port = sys.argv[1], int(sys.argv[2])
prefix = "/apisix/"


def encode(text):
    return base64.b64encode(text.encode()).decode()


def cjson(body):
    return json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode()


def begin(path, body, token=None):
    connection = http.client.HTTPConnection(host, port, timeout=10)
    headers = {"User-Agent": "lua-resty-http/0.2.2 (Lua) ngx_lua/10026"}
    if token:
        headers["Authorization"] = token
    connection.request("POST", "/v3" + path, cjson(body) if body else None, headers)
    return connection, connection.getresponse()


def ask(path, body=None, token=None):
    connection, response = begin(path, body, token)
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def done(path, body=None, token=None):
    status, answer = ask(path, body, token)
    assert status == 200, (path, body, status, answer)
    return answer


def range_body(key, **more):
    """http_get."""
    zeros = ["limit", "revision", "sort_order", "sort_target"]
    bounds = [f"{side}_{kind}_revision" for side in ["min", "max"] for kind in ["mod", "create"]]
    switches = ["serializable", "keys_only", "count_only"]
    body = {"key": encode(key), **dict.fromkeys(zeros + bounds, 0), **dict.fromkeys(switches, False)}
    return {**body, **more}


def directory(key):
    """get_range_end."""
    return encode(key[:-1] + chr(ord(key[-1]) + 1))


# Like APISIX at its start: version, set, get, readdir.
connection = http.client.HTTPConnection(host, port, timeout=10)
connection.request("GET", "/version")
versions = json.loads(connection.getresponse().read())
assert {"etcdserver", "etcdcluster"} <= versions.keys(), versions
route = json.dumps({"uri": "/hello", "upstream": {"nodes": {"127.0.0.1:1980": 1}}})
assert "prev_kv" not in done("/kv/put", {"key": encode(prefix + "routes/1"), "value": encode(route), "prev_kv": True})
put = done("/kv/put", {"key": encode(prefix + "routes/1"), "value": encode(route + " "), "prev_kv": True})
assert put["prev_kv"]["value"] == encode(route), put
got = done("/kv/range", range_body(prefix + "routes/1"))
assert got["count"] == "1" and got["kvs"][0]["value"] == encode(route + " "), got
assert "kvs" not in done("/kv/range", range_body(prefix + "none"))
done("/kv/put", {"key": encode(prefix + "routes/2"), "value": encode("")})
listed = done("/kv/range", range_body(prefix, range_end=directory(prefix), sort_order=2, sort_target=0))
assert [kv["key"] for kv in listed["kvs"]] == [encode(prefix + "routes/2"), encode(prefix + "routes/1")], listed
assert "value" not in listed["kvs"][0], listed
counted = done("/kv/range", range_body(prefix, range_end=directory(prefix), count_only=True))
assert counted["count"] == "2" and "kvs" not in counted, counted
revision = int(counted["header"]["revision"])

# watchdir: one document per line; a line that has all of it ends in a newline.
request = {"key": encode(prefix), "range_end": directory(prefix), "start_revision": revision + 1, "prev_kv": True}
watching, response = begin("/watch", {"create_request": request})
assert response.status == 200 and response.getheader("transfer-encoding") == "chunked"
assert json.loads(response.readline())["result"]["created"] is True

# setnx and setx.
for name, code in [("setnx", True), ("setnx", False)]:
    compare = [{"target": "CREATE", "key": encode(prefix + "once"), "createRevision": 0}]
    success = [{"requestPut": {"key": encode(prefix + "once"), "value": encode(name)}}]
    assert done("/kv/txn", {"compare": compare, "success": success}).get("succeeded", False) is code
failure = [{"requestPut": {"key": encode(prefix + "once"), "value": encode("setx")}}]
answer = done("/kv/txn", {"compare": compare, "failure": failure})
assert "succeeded" not in answer and "response_put" in answer["responses"][0], answer
compare = [{"key": encode(prefix + "once"), "result": "EQUAL", "target": "VALUE", "value": encode("setx")}]
success = [{"requestDeleteRange": {"key": encode(prefix + "once")}}]
assert done("/kv/txn", {"compare": compare, "success": success})["succeeded"] is True
events = [json.loads(response.readline())["result"]["events"]]
while sum(len(batch) for batch in events) < 3:
    events.append(json.loads(response.readline())["result"]["events"])
kinds = [(event.get("type", "PUT"), event["kv"].get("value")) for batch in events for event in batch]
assert kinds == [("PUT", encode("setnx")), ("PUT", encode("setx")), ("DELETE", None)], kinds
watching.close()

# A watch from a revision that is compacted: the library reads `error` or `result` of it.
done("/kv/compaction", {"revision": revision})
watching, response = begin("/watch", {"create_request": {**request, "start_revision": 1}})
assert json.loads(response.readline())["result"]["created"] is True
line = json.loads(response.readline())["result"]
assert (line["canceled"], line["compact_revision"]) == (True, str(revision)), line
watching.close()

# Leases; ids are text in answers and go back as they are.
lease = done("/lease/grant", {"TTL": 30, "ID": 0})["ID"]
done("/kv/put", {"key": encode(prefix + "leased"), "value": encode("1"), "lease": lease})
assert done("/lease/keepalive", {"ID": lease})["result"]["TTL"] == "30"
left = done("/kv/lease/timetolive", {"ID": lease, "keys": True})
assert left["keys"] == [encode(prefix + "leased")] and left["grantedTTL"] == "30", left
assert {"ID": lease} in done("/lease/leases")["leases"]
done("/kv/lease/revoke", {"ID": lease})
status, answer = ask("/kv/lease/revoke", {"ID": lease})
assert (status, answer["code"]) == (404, 5), answer

# Users: APISIX's token goes into every request, and a watch with a bad one answers with `error`, whose `http_code` it reads.
done("/auth/user/add", {"name": "root", "password": "secret"})
done("/auth/user/grant", {"user": "root", "role": "root"})
done("/auth/enable")
token = done("/auth/authenticate", {"name": "root", "password": "secret"})["token"]
try:
    assert done("/kv/range", range_body(prefix + "routes/1"), token)["count"] == "1"
    status, answer = ask("/kv/range", range_body(prefix + "routes/1"))
    assert (status, answer["code"], answer["message"]) == (400, 3, "etcdserver: user name is empty"), answer
    status, answer = ask("/kv/range", range_body(prefix + "routes/1"), "none")
    assert (status, answer["code"]) == (401, 16), answer
    watching, response = begin("/watch", {"create_request": {"key": encode(prefix + "routes/1")}}, token)
    assert json.loads(response.readline())["result"]["created"] is True
    watching.close()
finally:
    done("/auth/disable", None, token)
    done("/auth/user/delete", {"name": "root"})

# delete and rmdir.
assert done("/kv/deleterange", {"key": encode(prefix + "routes/1"), "prev_kv": True})["prev_kvs"][0]["version"] == "2"
assert done("/kv/deleterange", {"key": encode(prefix), "range_end": directory(prefix)})["deleted"] == "1"
print("lua-resty-etcd's requests", versions["etcdserver"])
