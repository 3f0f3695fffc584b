// @influxdata/influxdb3-client: writes line protocol, reads it back by its ticket, as rows and as points.
const assert = require("node:assert/strict");
const { InfluxDBClient, Point } = require("@influxdata/influxdb3-client");

(async () => {
  const client = new InfluxDBClient({ host: `http://${process.argv[2]}`, token: process.argv[3], database: "node" });
  const count = 500;
  const points = Array.from({ length: count }, (_, i) =>
    Point.measurement("m").setTag("host", `h ${i % 7}`).setFloatField("f", i / 8).setIntegerField("n", -i).setTimestamp(BigInt(i) * 1_000_001n + 1n));
  await client.write(points, "node");
  let seen = 0;
  for await (const row of client.query('SELECT * FROM "m" ORDER BY time', "node")) {
    assert.equal(row.f, seen / 8);
    assert.equal(row.host, `h ${seen % 7}`);
    seen += 1;
  }
  assert.equal(seen, count);
  const one = [];
  for await (const row of client.query("SELECT n FROM m WHERE host = $host ORDER BY time LIMIT 2", "node", { type: "sql", params: { host: "h 3" } })) one.push(Number(row.n));
  assert.deepEqual(one, [-3, -10]);
  await assert.rejects(async () => {
    for await (const row of client.query("SELECT nothing FROM m", "node")) assert.fail(row);
  }, /nothing/);
  await client.close();
  console.log("ok @influxdata/influxdb3-client");
})();
