// The npm package etcd3 against the server at HOST:PORT: put, get, watch, lease, lock, election, transaction.
const assert = require('node:assert');
const { once } = require('node:events');
const { Etcd3 } = require('etcd3');

async function main() {
  const client = new Etcd3({ hosts: `http://${process.argv[2]}:${process.argv[3]}` });
  const space = client.namespace('/clients/node/');

  await space.put('a').value('1');
  assert.strictEqual(await space.get('a').string(), '1');
  assert.deepStrictEqual(await space.getAll().strings(), { a: '1' });

  const watcher = await space.watch().prefix('').create();
  const put = once(watcher, 'put');
  await space.put('b').value('2');
  assert.strictEqual((await put)[0].value.toString(), '2');
  const deleted = once(watcher, 'delete');
  await space.delete().key('b');
  assert.strictEqual((await deleted)[0].key.toString(), 'b');
  await watcher.cancel();

  const lease = space.lease(30);
  await lease.put('leased').value('3');
  await lease.keepaliveOnce();
  assert.strictEqual(await space.get('leased').string(), '3');
  await lease.revoke();
  assert.strictEqual(await space.get('leased').string(), null);

  const done = await space.if('a', 'Value', '==', '1').then(space.put('a').value('4')).else(space.delete().key('a')).commit();
  assert.strictEqual(done.succeeded, true);

  const held = space.lock('lock').ttl(30);
  await held.acquire();
  await assert.rejects(space.lock('lock').ttl(30).acquire(), /lock/i);
  await held.release();
  assert.strictEqual(await space.lock('lock').ttl(30).do(() => 'inside'), 'inside');

  const election = space.election('leader', 30);
  const campaign = election.campaign('me');
  await once(campaign, 'elected');
  assert.strictEqual(await election.leader(), 'me');
  await campaign.resign();

  await space.delete().all();
  client.close();
  console.log('node etcd3', require('etcd3/package.json').version);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
