/**
 * A vCPU of a guest that never stops touching: a thread that loads from every page of a range by system calls, which say EFAULT
 * where a load of its own would be a SIGBUS. Counts both in shared memory: [0] loads, [1] lost ones; [2]: it is to end;
 * [turns]: how often it was between two rounds of loads, where it uses no view.
 */
import { workerData } from "node:worker_threads";
import { copyFrom } from "../../../dist/sys/src/index.js";

const { address, pages, counts, turns } = workerData;
const words = new Int32Array(counts);
const into = new Uint8Array(8);
while (Atomics.load(words, 2) === 0) {
  for (let page = 0; page < pages; page += 1) {
    if (copyFrom(address + BigInt(page) * 4096n, into) !== 0) Atomics.add(words, 1, 1);
    Atomics.add(words, 0, 1);
  }
  Atomics.add(words, turns, 1);
}
