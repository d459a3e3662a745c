import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.SECONDS;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;

/** jetcd against the server at HOST PORT: put, get, watch, lease, lock, transaction. */
public final class Main {
    private static final String PREFIX = "/clients/jetcd/";

    private static ByteSequence bytes(String text) {
        return ByteSequence.from(text, UTF_8);
    }

    private static <T> T done(CompletableFuture<T> future) throws Exception {
        return future.get(30, SECONDS);
    }

    private static void check(boolean holds, Object seen) {
        if (!holds) {
            throw new AssertionError(String.valueOf(seen));
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (Client client = Client.builder().endpoints("http://" + arguments[0] + ":" + arguments[1]).build()) {
            KV kv = client.getKVClient();
            done(kv.put(bytes(PREFIX + "a"), bytes("1")));
            var got = done(kv.get(bytes(PREFIX), GetOption.builder().isPrefix(true).build())).getKvs();
            check(got.size() == 1 && got.get(0).getValue().equals(bytes("1")), got);

            BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
            var option = WatchOption.builder().isPrefix(true).withPrevKV(true).build();
            try (Watch.Watcher watcher = client.getWatchClient().watch(bytes(PREFIX), option, r -> events.addAll(r.getEvents()))) {
                // The watcher is registered in the background; an event of its first put may come before it.
                WatchEvent put = null;
                for (int turn = 0; put == null && turn < 30; turn++) {
                    done(kv.put(bytes(PREFIX + "b"), bytes("2")));
                    put = events.poll(1, SECONDS);
                }
                check(put != null && put.getEventType() == WatchEvent.EventType.PUT, put);
                done(kv.delete(bytes(PREFIX + "b")));
                WatchEvent last = put;
                while (last.getEventType() != WatchEvent.EventType.DELETE) {
                    last = events.poll(30, SECONDS);
                    check(last != null, events);
                }
                check(last.getPrevKV().getValue().equals(bytes("2")), last);
            }

            var leases = client.getLeaseClient();
            long lease = done(leases.grant(30)).getID();
            done(kv.put(bytes(PREFIX + "leased"), bytes("3"), PutOption.builder().withLeaseId(lease).build()));
            check(done(leases.keepAliveOnce(lease)).getTTL() == 30, lease);
            done(leases.revoke(lease));
            check(done(kv.get(bytes(PREFIX + "leased"))).getCount() == 0, "the key of a revoked lease");

            var compare = new Cmp(bytes(PREFIX + "a"), Cmp.Op.EQUAL, CmpTarget.value(bytes("1")));
            var change = Op.put(bytes(PREFIX + "a"), bytes("4"), PutOption.DEFAULT);
            check(done(kv.txn().If(compare).Then(change).commit()).isSucceeded(), "the transaction");

            long holder = done(leases.grant(30)).getID();
            var key = done(client.getLockClient().lock(bytes(PREFIX + "lock"), holder)).getKey();
            check(key.toString(UTF_8).startsWith(PREFIX + "lock/"), key);
            done(client.getLockClient().unlock(key));
            done(leases.revoke(holder));

            check(done(client.getClusterClient().listMember()).getMembers().size() == 1, "one member");
            done(kv.delete(bytes(PREFIX), DeleteOption.builder().isPrefix(true).build()));
        }
        System.out.println("jetcd");
        System.exit(0);
    }
}
