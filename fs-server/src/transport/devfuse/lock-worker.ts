/** The thread of a devfuse server that tries for the locks that requests wait for (lock-waits.ts). */
import { workerData } from "node:worker_threads";
import { nameThread } from "../../../../sys/src/index.ts";
import { PassthroughFileSystem } from "../../passthrough/passthrough.ts";
import type { SharedTables } from "../../passthrough/tables.ts";
import { answerDevice, LockWaitLoop } from "./lock-waits.ts";

export type LockWorkerData = {
  readonly source: string;
  readonly tables: SharedTables;
  readonly waits: SharedArrayBuffer;
};

function main({ source, tables, waits }: LockWorkerData): void {
  nameThread("daxfault-locks");
  const fs = new PassthroughFileSystem(source, {}, tables);
  const letGo = <T>(result: T): T => {
    fs.letGo();
    return result;
  };
  new LockWaitLoop(waits, {
    fs: { setLock: (handle, lock) => letGo(fs.setLock(handle, lock)) },
    answer: answerDevice,
    now: () => performance.now(),
  }).run();
}

main(workerData as LockWorkerData);
