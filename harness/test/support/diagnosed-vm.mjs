/**
 * A VM to be diagnosed: the micro-guest over a file, in a process of its own that knows nothing of the diagnosis and never
 * stops by itself. Argument: JSON {file, offset, kind, asyncPageFaults, lapicInKernel}. It says `touched` on standard output
 * once the guest has read the file's first page, and lets the guest go on at a line on standard input.
 *   kind load: reads at `offset`; count: counts for ever; halt: waits for ever; reread: reads all pages for ever
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { MAP_SHARED, mmap, PROT_READ, PROT_WRITE } from "../../../dist/sys/src/index.js";
import { openMachine, plainMachine, runMachine, WINDOW_BASE } from "../../../dist/vmm/src/index.js";

const {
  file,
  offset = 0x1000,
  kind,
  asyncPageFaults = "off",
  lapicInKernel = true,
} = JSON.parse(process.argv[2]);
const fd = openSync(file, "r+");
const windowBytes = Number(fstatSync(fd).size);
const windowHva = mmap({ lengthBytes: windowBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
closeSync(fd);

const load = (at) => ({ verb: "load", size: 8, address: WINDOW_BASE + BigInt(at), value: 0n });
const signal = (verb, number) => ({ verb, size: 0, address: BigInt(number), value: 0n });
const count = { verb: "count", size: 0, address: 0n, value: 0n };
const begin = [load(0x1000), signal("signal", 0), signal("await", 1)];
const victim = {
  load: [...begin, load(offset)],
  count: [...begin, count],
  halt: [...begin, signal("await", 2)],
  reread: [...begin, { ...load(offset), until: 2 }],
}[kind];
const programs = [{ cpl: 3, steps: victim }];
if (asyncPageFaults !== "off") programs.push({ cpl: 3, steps: [count] });

const machine = openMachine({
  ...plainMachine,
  lapicInKernel,
  asyncPageFaults,
  windowHva,
  windowBytes,
  programs,
});
runMachine(machine, {
  signal: ({ number }) => {
    if (number === 0) process.stdout.write("touched\n");
  },
  stopped: () => process.stdout.write("stopped\n"),
});
process.stdin.on("data", () => machine.channel.raise(1));
