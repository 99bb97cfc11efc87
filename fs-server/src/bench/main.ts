/**
 * `node dist/fs-server/src/bench/main.js [--folder DIR] [--repetitions N] [--client-cpu N] [--server-cpu N]
 * [--peer "COMMAND {source} {mountpoint}"] [-- SERVER ARGUMENTS]`
 */
import { parseArgs } from "node:util";
import { benchFileServer, benchTable } from "./bench.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    folder: { type: "string", default: "/dev/shm" },
    repetitions: { type: "string", default: "3" },
    "client-cpu": { type: "string", default: "0" },
    "server-cpu": { type: "string", default: "1" },
    peer: { type: "string" },
  },
});
const result = await benchFileServer({
  folder: values.folder,
  repetitions: Number(values.repetitions),
  pins: { client: Number(values["client-cpu"]), server: Number(values["server-cpu"]) },
  peer: values.peer ?? null,
  serverArguments: positionals,
  progress: (line) => process.stderr.write(`${line}\n`),
});
console.log(benchTable(result));
