/** A mount whose server says that the cache is stale: the kernel drops it. */
import { closeSync, openSync, readSync, renameSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { ALL_PAGES, type Notifier } from "../../src/core/notify.ts";
import { type NodeId, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";
import { detach } from "../../src/serve/mount-point.ts";
import { crewMemory } from "../../src/transport/devfuse/crew.ts";
import { deviceNotifier, mountDevice } from "../../src/transport/devfuse/device.ts";
import type { DevfuseWorkerData } from "../../src/transport/devfuse/worker.ts";
import { noMountBecause } from "../support/server.ts";

const WORKER = pathToFileURL(resolve("dist/fs-server/src/transport/devfuse/worker.js"));
const DAY_MS = 86_400_000;
/** Nodes are numbered as they are looked up. */
const firstNode = (ROOT_NODE + 1n) as NodeId;

describe.skipIf(noMountBecause("devfuse") !== null)("a mount that caches for a day", () => {
  const source = temporaryDirectory();
  const mounted = temporaryDirectory();
  let notifier: Notifier;
  let ended: Promise<unknown>;
  let open: number;
  const seen = (): string => {
    const into = Buffer.alloc(16);
    return into.toString("latin1", 0, readSync(open, into, 0, 16, 0));
  };

  beforeAll(async () => {
    writeFileSync(join(source, "file"), "before");
    const device = mountDevice({ mountPoint: mounted, readOnly: false });
    const workerData: DevfuseWorkerData = {
      device,
      source,
      readOnly: false,
      writebackCache: false,
      kernelPassthrough: false,
      posixAcl: false,
      keepCache: false,
      directIo: false,
      allowDirectIo: false,
      translateUid: [],
      translateGid: [],
      announceSubmounts: false,
      fileHandles: "prefer",
      posixLock: false,
      flock: false,
      lockWaits: null,
      entryTimeoutMs: DAY_MS,
      attributeTimeoutMs: DAY_MS,
      debug: false,
      faults: [],
      gate: null,
      reportsOpenFiles: false,
      crew: crewMemory(),
      thread: 0,
      begun: null,
      isAlone: true,
      ioUring: false,
      queue: null,
      mountPoint: mounted,
      faultCalls: new SharedArrayBuffer(0),
    };
    const worker = new Worker(WORKER, { workerData });
    await new Promise((done) => worker.once("message", done));
    ended = new Promise((done) => worker.once("exit", done));
    notifier = deviceNotifier(device);
    open = openSync(join(mounted, "file"), "r");
  });

  afterAll(async () => {
    closeSync(open);
    expect(detach(mounted)).toBe(null);
    await ended;
    expect(await notifier.notify({ kind: "inode", node: firstNode, pages: null })).toBe("unknown");
  });

  it("keeps stale content until told of the change, and is told", async () => {
    expect(seen()).toBe("before");
    writeFileSync(join(source, "file"), "after!");
    expect(seen()).toBe("before");
    expect(await notifier.notify({ kind: "inode", node: firstNode, pages: ALL_PAGES })).toBe("dropped");
    expect(seen()).toBe("after!");
  });

  it("drops the attributes alone, too", async () => {
    expect(statSync(join(mounted, "file")).size).toBe(6);
    truncateSync(join(source, "file"), 3);
    expect(statSync(join(mounted, "file")).size).toBe(6);
    expect(await notifier.notify({ kind: "inode", node: firstNode, pages: null })).toBe("dropped");
    expect(statSync(join(mounted, "file")).size).toBe(3);
  });

  it("keeps a stale name until told", async () => {
    renameSync(join(source, "file"), join(source, "renamed"));
    expect(statSync(join(mounted, "file")).size).toBe(3);
    const name = componentName("file");
    expect(await notifier.notify({ kind: "entry", parent: ROOT_NODE, name })).toBe("dropped");
    expect(() => statSync(join(mounted, "file"))).toThrow(/ENOENT/);
  });

  it("answers that nothing was cached of a node or name it does not know", async () => {
    const stranger = { kind: "inode", node: 4711n as NodeId, pages: ALL_PAGES } as const;
    expect(await notifier.notify(stranger)).toBe("unknown");
    const name = componentName("never-seen");
    expect(await notifier.notify({ kind: "entry", parent: ROOT_NODE, name })).toBe("unknown");
  });
});
