// A Node service as a test needs it: counts what it executes, by x-id, in a file. Its keep-alive is
// Node's own (5 s) unless KEEP_ALIVE says otherwise, in milliseconds.
const fs = require("fs");
const http = require("http");
const net = require("net");

const log = fs.openSync(process.env.EXECUTIONS, "a", 0o600);
let closing = false;
const server = http.createServer((request, response) => {
  request.on("end", () => {
    const id = request.headers["x-id"];
    if (id) fs.writeSync(log, id + "\n");
    response.shouldKeepAlive = !closing;
    response.setHeader("Content-Length", Buffer.byteLength(process.env.NAME));
    response.end(process.env.NAME);
  });
  request.resume();
});
if (process.env.KEEP_ALIVE) server.keepAliveTimeout = Number(process.env.KEEP_ALIVE);
server.listen(Number(process.env.PORT), process.env.HOST);
// Nothing new is taken, and every connection is told so with its next answer. (`server.close` would
// also close idle connections at once, with a reset for a request that is just arriving: no proxy
// can know whether that one was executed.)
process.on("SIGTERM", () => {
  closing = true;
  net.Server.prototype.close.call(server, () => process.exit(0));
});
