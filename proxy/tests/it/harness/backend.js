// A Node service as a test needs it: counts what it executes, by x-id, in a file. Its keep-alive is
// Node's own (5 s) unless KEEP_ALIVE says otherwise, in milliseconds.
const fs = require("fs");
const http = require("http");

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
// What is under way is finished, nothing new is taken. `close` alone would keep a connection that
// is just in use for as long as it is used.
process.on("SIGTERM", () => {
  closing = true;
  server.close(() => process.exit(0));
  setInterval(() => server.closeIdleConnections(), 20);
});
