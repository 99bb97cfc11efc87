/** A process that maps files shared, and a memfd, says so in a line, and waits. Arguments: the files. */
import { closeSync, fstatSync, ftruncateSync, openSync } from "node:fs";
import { MAP_SHARED, memfdCreate, mmap, PROT_READ, PROT_WRITE } from "../../../dist/sys/src/index.js";

for (const path of process.argv.slice(2)) {
  const fd = openSync(path, "r+");
  mmap({ lengthBytes: Number(fstatSync(fd).size), prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
  closeSync(fd);
}
const memory = memfdCreate("guest ram");
ftruncateSync(memory, 2 ** 20);
mmap({ lengthBytes: 2 ** 20, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd: memory });
process.stdout.write("mapped\n");
process.stdin.resume();
