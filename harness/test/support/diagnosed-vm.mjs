/**
 * A VM to be diagnosed: the micro-guest over a file, in a process of its own that knows nothing of the diagnosis and never
 * stops by itself. Argument: JSON {file, offset, kind, asyncPageFaults, lapicInKernel, memory, cpus}. It says `touched` on standard output
 * once the guest has read the file's first page, and lets the guest go on at a line on standard input; `progress`: a guest that
 * loads has got its page.
 *   memory file (default); userfault: of its own, from 2 MiB on owed by a handler that never answers; evicted: the
 *   file, whose pages are taken out of the page cache every 20 ms
 *   kind load: reads at `offset`, says so, and reads on for ever; count: counts for ever; halt: waits for ever; reread: reads all pages for ever
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import {
  check,
  declare,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  PROT_READ,
  PROT_WRITE,
} from "../../../dist/sys/src/index.js";
import { openMachine, plainMachine, runMachine, WINDOW_BASE } from "../../../dist/vmm/src/index.js";

const {
  file,
  offset = 0x1000,
  kind,
  asyncPageFaults = "off",
  lapicInKernel = true,
  memory = "file",
  cpus = 1,
} = JSON.parse(process.argv[2]);
const fd = openSync(file, "r+");
const windowBytes = Number(fstatSync(fd).size);
const prot = PROT_READ | PROT_WRITE;
const windowHva =
  memory === "userfault"
    ? mmap({ lengthBytes: windowBytes, prot, flags: MAP_PRIVATE | MAP_ANONYMOUS })
    : mmap({ lengthBytes: windowBytes, prot, flags: MAP_SHARED, fd });
closeSync(fd);

/** userfaultfd(2): nobody reads it. */
function oweFrom(offset) {
  const syscall = declare("int64 syscall(int64 number, int64 flags)");
  const ioctl = declare("int ioctl(int fd, unsigned long request, void *argument)");
  const request = (number, bytes) => BigInt(3 * 2 ** 30 + bytes * 2 ** 16 + 0xaa00 + number);
  const uffd = Number(check("userfaultfd", syscall(323, 0)));
  check("UFFDIO_API", ioctl(uffd, request(0x3f, 24), new BigUint64Array([0xaan, 0n, 0n])));
  const range = [windowHva + BigInt(offset), BigInt(windowBytes - offset), 1n, 0n];
  check("UFFDIO_REGISTER", ioctl(uffd, request(0, 32), new BigUint64Array(range)));
}

/** Each page is read again when it is touched. */
function keepEvicting() {
  const madvise = declare("int madvise(uint64 address, uint64 length, int advice)");
  const fadvise = declare("int posix_fadvise(int fd, int64 offset, int64 length, int advice)");
  const held = openSync(file, "r");
  setInterval(() => {
    // MADV_DONTNEED: what is mapped stays in the page cache. POSIX_FADV_DONTNEED
    madvise(windowHva, BigInt(windowBytes), 4);
    fadvise(held, 0n, 0n, 4);
  }, 20);
}

if (memory === "evicted") keepEvicting();
if (memory === "userfault") oweFrom(2 * 2 ** 20);

const load = (at) => ({ verb: "load", size: 8, address: WINDOW_BASE + BigInt(at), value: 0n });
const signal = (verb, number) => ({ verb, size: 0, address: BigInt(number), value: 0n });
const count = { verb: "count", size: 0, address: 0n, value: 0n };
/** Signals of the guest's. */
const [TOUCHED, PROGRESS] = [0, 3];
const begin = [load(0x1000), signal("signal", TOUCHED), signal("await", 1)];
const victim = {
  load: [...begin, load(offset), signal("signal", PROGRESS), { ...load(offset), until: 2 }],
  count: [...begin, count],
  halt: [...begin, signal("await", 2)],
  reread: [...begin, { ...load(offset), until: 2 }],
}[kind];
const programs = [{ cpl: 3, steps: victim }];
if (cpus === 2) programs.push({ cpl: 3, cpu: 1, steps: [count] });
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
    if (number === TOUCHED) process.stdout.write("touched\n");
    if (number === PROGRESS) process.stdout.write("progress\n");
  },
  stopped: () => process.stdout.write("stopped\n"),
  ended: () => process.stdout.write("ended\n"),
});
process.stdin.on("data", () => machine.channel.raise(1));
