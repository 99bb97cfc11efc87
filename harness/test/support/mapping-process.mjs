/**
 * A process that maps files shared, and a memfd, says so in a line, and waits. Arguments: the files. A line `map PATH` on
 * standard input maps one more, `map-read-only PATH` for reading alone, `touch` reads a byte of every page, `cut-memory` makes the memfd
 * a page long, `seal-memory` forbids that it grows; each is answered with a line.
 */
import { closeSync, fstatSync, ftruncateSync, openSync } from "node:fs";
import { createInterface } from "node:readline";
import {
  addSeals,
  F_SEAL_GROW,
  MAP_SHARED,
  memfdCreate,
  mmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from "../../../dist/sys/src/index.js";

const PAGE_BYTES = 4096;
const views = [];

function mapDescriptor(fd, prot = PROT_READ | PROT_WRITE) {
  const lengthBytes = Number(fstatSync(fd).size);
  const address = mmap({ lengthBytes, prot, flags: MAP_SHARED, fd });
  views.push(viewOf(address, lengthBytes));
}

function map(path) {
  const fd = openSync(path, "r+");
  mapDescriptor(fd);
  closeSync(fd);
}

function mapReadOnly(path) {
  const fd = openSync(path, "r");
  mapDescriptor(fd, PROT_READ);
  closeSync(fd);
}

for (const path of process.argv.slice(2)) map(path);
const memory = memfdCreate("guest ram");
ftruncateSync(memory, 2 ** 20);
mapDescriptor(memory);
process.stdout.write("mapped\n");

let sum = 0;
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line.startsWith("map ")) map(line.slice("map ".length));
  if (line.startsWith("map-read-only ")) mapReadOnly(line.slice("map-read-only ".length));
  if (line === "cut-memory") ftruncateSync(memory, PAGE_BYTES);
  if (line === "seal-memory") addSeals(memory, F_SEAL_GROW);
  if (line === "touch")
    for (const view of views) for (let at = 0; at < view.length; at += PAGE_BYTES) sum += view[at];
  process.stdout.write(`${line.split(" ")[0]} ${sum}\n`);
});
