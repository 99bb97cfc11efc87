/** The host setup on the real host: file, host actors as processes, signals. */

import { spawn } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { contentBytes, type HostStep, type Scenario } from "../../../language/src/index.ts";
import { scenarioWith } from "../../../language/test/support/cases.ts";
import {
  MAP_SHARED,
  mmap,
  mountsBelow,
  munmap,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from "../../../sys/src/index.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import {
  type HostSetup,
  type HostSetupOptions,
  openHostSetup,
  setupFailure,
} from "../../src/engines/host-setup.ts";
import { killedText } from "../../src/engines/host-step.ts";
import { notMounted } from "../../src/engines/mount.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { processesOf, stoppedProcesses } from "../../src/run/sweep.ts";
import { within } from "../../src/within.ts";
import { caseFolder } from "../support/folders.ts";

const root = supportOf(thisMachine(), ["root"]);
const fuse = supportOf(thisMachine(), ["fuse"]);

function withHost(...steps: HostStep[]): Scenario {
  const { victim } = scenarioWith({}).actors;
  if (victim === undefined) throw new Error("no victim");
  return scenarioWith({ actors: { victim, host: { in: "host-process", through: "file", steps } } });
}

/** Of steps that end by themselves: each is a process, and the machine may be busy. */
const SETTLED_MS = 20_000;

async function onHostSetup(
  scenario: Scenario,
  act: (setup: HostSetup) => Promise<void>,
  options: HostSetupOptions = {},
): Promise<string> {
  const directory = caseFolder();
  const setup = await openHostSetup(scenario, { directory, signal, slowness: 1, timeoutMs: 20_000 }, options);
  try {
    await act(setup);
  } finally {
    await setup.close();
  }
  // The server's reaper has been told "done" and ends by itself.
  await vi.waitFor(() => expect(processesOf(directory)).toEqual([]));
  expect(mountsBelow(directory)).toEqual([]);
  return directory;
}

/** Nobody aborts here. */
const { signal } = new AbortController();

describe("the backing file", () => {
  it("has the scenario's size and content", async () => {
    await onHostSetup(scenarioWith({}), async (setup) => {
      expect(statSync(setup.filePath).size).toBe(0x400000);
      expect(setup.readFile(0x12340n, 24)).toEqual(contentBytes("pattern", 0x12340n, 24));
      const bytes = readFileSync(setup.filePath).subarray(0x300000, 0x300040);
      expect(new Uint8Array(bytes)).toEqual(contentBytes("pattern", 0x300000n, 64));
    });
  });

  it.skipIf(root.kind === "no")(
    "on a full tmpfs has a first half, and no block left for the second",
    async () => {
      const scenario = scenarioWith({ backing: { kind: "tmpfs-full", size: 0x400000n, content: "pattern" } });
      await onHostSetup(scenario, async (setup) => {
        expect(setup.fileSystem).toBe("tmpfs");
        const { size, blocks } = statSync(setup.filePath);
        expect([size, blocks * 512]).toEqual([0x400000, 0x200000]);
        expect(setup.readFile(0x1ffff8n, 8)).toEqual(contentBytes("pattern", 0x1ffff8n, 8));
        expect(setup.readFile(0x200000n, 8)).toEqual(new Uint8Array(8));
      });
    },
  );
});

describe("host actors", () => {
  it("do nothing before the engine says so, then wait for signals and raise them", async () => {
    const scenario = withHost(
      { verb: "await", name: "touched" },
      { verb: "truncate", size: 0x1800n },
      { verb: "signal", name: "cut" },
    );
    await onHostSetup(scenario, async (setup) => {
      const heard: string[] = [];
      setup.onSignal((name, from) => heard.push(`${name} from ${from}`));
      setup.raise("touched", "victim");
      expect(setup.hostSteps()).toEqual({ host: { "truncate#1": { kind: "not-reached" } } });
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(heard).toEqual(["touched from victim", "cut from host"]);
      expect(statSync(setup.filePath).size).toBe(0x1800);
      expect(setup.hostSteps()).toEqual({ host: { "truncate#1": { kind: "done" } } });
      expect(setup.counts()).toEqual({ signal: 2, truncate: 1 });
      expect(setup.readFile(0x1800n, 8)).toEqual(new Uint8Array(8));
      expect(setup.fileSize()).toBe(0x1800n);
      expect(await setup.failure()).toBeNull();
    });
  });

  it("give late listeners the signals that were raised before", async () => {
    await onHostSetup(scenarioWith({}), async (setup) => {
      setup.raise("touched", "victim");
      setup.raise("touched", "somebody else");
      const heard: string[] = [];
      const stop = setup.onSignal((name, from) => heard.push(`${name} from ${from}`));
      expect(heard).toEqual(["touched from victim"]);
      stop();
      setup.raise("cut", "host");
      expect(heard).toHaveLength(1);
      expect(setup.isRaised("cut")).toBe(true);
    });
  });

  it("punch, rename over and unlink", async () => {
    const scenario = withHost(
      { verb: "punch", offset: 0x1000n, length: 0x1000n },
      { verb: "rename-over" },
      { verb: "unlink" },
    );
    await onHostSetup(scenario, async (setup) => {
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      // The host setup still reads the inode that was there when it was opened.
      expect(setup.readFile(0x1000n, 8)).toEqual(new Uint8Array(8));
      expect(setup.readFile(0x2000n, 8)).toEqual(contentBytes("pattern", 0x2000n, 8));
      expect(existsSync(setup.filePath)).toBe(false);
      const { host } = setup.hostSteps();
      expect(host).toEqual({
        "punch#1": { kind: "done" },
        "rename-over#1": { kind: "done" },
        "unlink#1": { kind: "done" },
      });
    });
  });

  it("open and ftruncate, open with O_TRUNC, collapse, write through a mapping of their own", async () => {
    const scenario = withHost(
      { verb: "map-store", offset: 0x1ffcn, value: 0x1122334455667788n },
      { verb: "signal", name: "written" },
      { verb: "await", name: "seen" },
      { verb: "open" },
      { verb: "ftruncate", size: 0x3000n },
      { verb: "open-read" },
      { verb: "open-truncate", size: 0x2000n },
      { verb: "open-trunc" },
    );
    await onHostSetup(scenario, async (setup) => {
      let written: Uint8Array = new Uint8Array();
      setup.onSignal((name) => {
        if (name !== "written") return;
        written = setup.readFile(0x1ffcn, 8);
        setup.raise("seen", "test");
      });
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(Buffer.from(written).readBigUInt64LE()).toBe(0x1122334455667788n);
      expect(statSync(setup.filePath).size).toBe(0);
      expect(new Set(Object.values(setup.hostSteps().host ?? {}).map(({ kind }) => kind))).toEqual(
        new Set(["done"]),
      );
      expect(setup.counts()).toEqual({ signal: 2, write: 1, open: 2, truncate: 3 });
    });
  });

  it.skipIf(root.kind === "no")("truncate as another user, and from another mount namespace", async () => {
    const scenario = withHost(
      { verb: "truncate", size: 0x3000n, options: ["own-namespace"] },
      { verb: "truncate", size: 0x2000n, options: ["as-nobody"] },
      { verb: "truncate", size: 0x1000n, options: ["as-nobody", "own-namespace"] },
    );
    await onHostSetup(scenario, async (setup) => {
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(setup.hostSteps()).toEqual({
        host: {
          "truncate#1": { kind: "done" },
          "truncate#2": { kind: "done" },
          "truncate#3": { kind: "done" },
        },
      });
      expect(statSync(setup.filePath).size).toBe(0x1000);
    });
  });

  it("report what the kernel refuses as an observation", async () => {
    const scenario = withHost({ verb: "unlink" }, { verb: "truncate", size: 0n });
    await onHostSetup(scenario, async (setup) => {
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(setup.hostSteps().host?.["truncate#1"]).toEqual({ kind: "denied", errno: "ENOENT" });
    });
  });

  it("end by SIGBUS at a store behind the end of the file, and that is an observation", async () => {
    const scenario = withHost(
      { verb: "truncate", size: 0x1000n },
      { verb: "map-store", offset: 0xff8n, value: 1n },
      { verb: "map-store", offset: 0x1000n, value: 1n },
      { verb: "signal", name: "after" },
      { verb: "truncate", size: 0n },
    );
    await onHostSetup(scenario, async (setup) => {
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(await setup.failure()).toBeNull();
      expect(setup.hostSteps().host).toEqual({
        "truncate#1": { kind: "done" },
        "map-store#1": { kind: "done" },
        "map-store#2": { kind: "killed", signal: "SIGBUS" },
        "truncate#2": { kind: "not-reached" },
      });
      expect(setup.isRaised("after")).toBe(false);
      expect(killedText(setup.hostSteps())).toBe(
        "; host.map-store#2 has ended its process (SIGBUS): no step after it is done",
      );
    });
  });

  it("that wait for ever are not settled, and their steps not reached", async () => {
    await onHostSetup(scenarioWith({}), async (setup) => {
      setup.begin();
      expect(await setup.settled(200)).toBe(false);
      expect(setup.hostSteps().host?.["truncate#1"]).toEqual({ kind: "not-reached" });
    });
  });

  it("that wait for ever are waited for no longer than the set-up is there", async () => {
    let settled: Promise<boolean> = Promise.resolve(true);
    const beganMs = performance.now();
    await onHostSetup(scenarioWith({}), async (setup) => {
      setup.begin();
      settled = setup.settled(60_000);
    });
    expect(await settled).toBe(false);
    expect(performance.now() - beganMs).toBeLessThan(20_000);
  });

  it("that are a device die of what is lost, which is an observation", async () => {
    const steps: HostStep[] = [
      { verb: "device-write", offset: 0xffcn, size: 8, value: 0x1122334455667788n },
      { verb: "device-read", offset: 0x1000n, size: 8 },
      { verb: "truncate", size: 0x1000n },
      { verb: "device-read", offset: 0xff8n, size: 8 },
      { verb: "device-read", offset: 0xffcn, size: 8 },
      { verb: "truncate", size: 0n },
    ];
    await onHostSetup(withHost(...steps), async (setup) => {
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(setup.hostSteps()).toEqual({
        host: {
          "device-write#1": { kind: "done" },
          "device-read#1": { kind: "done" },
          "truncate#1": { kind: "done" },
          "device-read#2": { kind: "done" },
          "device-read#3": { kind: "killed", signal: "SIGBUS" },
          "truncate#2": { kind: "not-reached" },
        },
      });
      expect(setup.readFile(0xff8n, 8)).toEqual(
        new Uint8Array([...contentBytes("pattern", 0xff8n, 4), 0x88, 0x77, 0x66, 0x55]),
      );
      expect(setup.events().at(-1)?.detail).toBe("a device reads 8 bytes at 4092: SIGBUS");
      expect(await setup.failure()).toBeNull();
    });
  });

  it("that die are a failure of the host setup, not an observation", async () => {
    const directory = caseFolder();
    const setup = await openHostSetup(scenarioWith({}), {
      directory,
      signal,
      slowness: 1,
      timeoutMs: 20_000,
    });
    setup.begin();
    for (const pid of processesOf(directory)) process.kill(pid, "SIGKILL");
    expect(await setup.settled(3000)).toBe(false);
    expect(await setup.failure()).toBe("host actor host: killed by SIGKILL");
    await setup.close();
  });
});

describe("a file through our mount", () => {
  const fuse = supportOf(thisMachine(), ["fuse"]);
  const backing = {
    kind: "host-file",
    size: 0x400000n,
    content: "pattern",
    mount: {
      faults: [
        { operation: "read", at: 0x300000, after: 0, times: null, action: { kind: "fail", errno: "EIO" } },
      ],
    },
  } as const;

  it.skipIf(fuse.kind === "no")("is what is mapped, and its server follows the rules", async () => {
    await onHostSetup(scenarioWith({ backing }), async (setup) => {
      expect([setup.transport, setup.fileSystem]).toEqual(["devfuse", "fuse.daxfault"]);
      expect(setup.filePath).toBe(join(setup.mountpoint ?? "", "file"));
      const file = await open(setup.filePath, "r");
      const bytes = new Uint8Array(8);
      await file.read(bytes, 0, 8, 0x1000);
      expect(bytes).toEqual(contentBytes("pattern", 0x1000n, 8));
      await expect(file.read(bytes, 0, 8, 0x300000)).rejects.toThrow("EIO");
      await file.close();
      // What our server breaks on purpose is not broken for us.
      expect(setup.readFile(0x300000n, 8)).toEqual(contentBytes("pattern", 0x300000n, 8));
      expect(setup.readFile(0x300000n, 8, { written: true })).toEqual(contentBytes("pattern", 0x300000n, 8));
    });
  });

  it.skipIf(fuse.kind === "no")(
    "shows what its client has been given to hold, without asking its server",
    async () => {
      await onHostSetup(scenarioWith({ backing: { ...backing, cache: "never" } }), async (setup) => {
        const file = await open(setup.filePath, "r+");
        const [lengthBytes, fileOffset] = [PAGE_SIZE, 0x200000n];
        const options = {
          lengthBytes,
          prot: PROT_READ | PROT_WRITE,
          flags: MAP_SHARED,
          fd: file.fd,
          fileOffset,
        };
        const address = mmap(options);
        viewOf(address, lengthBytes).fill(0x5a, 8, 16);
        setup.endServer();
        const written = setup.readFile(0x200004n, 8, { written: true });
        const before = contentBytes("pattern", 0x200004n, 4);
        expect(written).toEqual(Uint8Array.from([...before, 0x5a, 0x5a, 0x5a, 0x5a]));
        expect(setup.readFile(0x200008n, 8)).toEqual(contentBytes("pattern", 0x200008n, 8));
        munmap(address, lengthBytes);
        // Nobody is there to take what is dirty.
        await file.close().catch(() => {});
      });
    },
  );
});

describe("the mount", () => {
  const byMount = (): Scenario => {
    const { victim, host } = scenarioWith({}).actors;
    if (victim === undefined || host?.in !== "host-process") throw new Error("no such actors");
    return scenarioWith({ actors: { victim, host: { ...host, through: "mount" } } });
  };
  it.each([
    { by: "devfuse", options: {}, needs: ["fuse"] },
    { by: "libfuse", options: { transport: "libfuse" }, needs: ["fuse", "fuse-native"] },
  ] as const)("is used by the actors that ask for it, and gone afterwards: $by", async (row) => {
    const { by, options, needs } = row;
    const possible = supportOf(thisMachine(), needs);
    if (possible.kind === "no") return console.warn(`skipped: ${possible.reason}`);
    const act = async (setup: HostSetup): Promise<void> => {
      expect(setup.transport).toBe(by);
      expect(setup.mountpoint).not.toBeNull();
      setup.raise("touched", "victim");
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(setup.hostSteps().host?.["truncate#1"]).toEqual({ kind: "done" });
      expect(statSync(setup.filePath).size).toBe(0);
    };
    await onHostSetup(byMount(), act, options);
  });

  it.runIf(isLong).each([
    ["ends at once", 'process.stderr.write("no such device\\n"); process.exit(1)', "no such device"],
    [
      "is killed while it starts",
      'process.kill(process.pid, "SIGKILL")',
      "file server: killed by SIGKILL before it had mounted",
    ],
    [
      "is killed before its mount, its output gone first",
      "require('node:fs').closeSync(1); setTimeout(() => process.kill(process.pid, 'SIGKILL'), 300)",
      "file server: killed by SIGKILL before it had mounted",
    ],
    ["says something else", 'console.log("hello"); setInterval(() => {}, 1000)', "did not mount"],
    [
      "claims a mount that is none",
      'console.log(JSON.stringify({ type: "ready", transport: "libfuse", mountpoint: "x" })); setInterval(() => {}, 1000)',
      "the mount table says no",
    ],
  ])("fails the host setup where the server %s", async (_what, program, message) => {
    const directory = caseFolder();
    const serverPath = join(directory, "server.cjs");
    const { writeFileSync } = await import("node:fs");
    writeFileSync(serverPath, program);
    await expect(
      openHostSetup(byMount(), { directory, signal, slowness: 1, timeoutMs: 20_000 }, { serverPath }),
    ).rejects.toThrow(message);
    expect(processesOf(directory)).toEqual([]);
  });
});

it("says of a server that was late for want of a processor that the machine was busy, of another one how it ended", () => {
  expect(setupFailure(notMounted(80_000, 61_000, "(exit 0): unmounted"))).toEqual({
    kind: "busy",
    message:
      "the machine was busy: the FUSE server did not mount within 80000 ms, and waited for a processor for 61000 ms",
  });
  expect(setupFailure(notMounted(80_000, 39_000, "(exit 1): no such source"))).toEqual({
    kind: "engine-error",
    message: "the FUSE server did not mount within 80000 ms (exit 1): no such source",
  });
});

describe.skipIf(fuse.kind === "no")("the file server that is mapped", () => {
  const served = (...steps: HostStep[]): Scenario => {
    const scenario = withHost(...steps);
    return { ...scenario, backing: { ...scenario.backing, mount: { faults: [] } } };
  };

  /** Another process, which may wait for ever. Its exit status; null: it waits. */
  function readFrom(path: string): { readonly ended: Promise<number | null>; kill(): void } {
    const child = spawn("dd", [`if=${path}`, "of=/dev/null", "bs=4096", "skip=768", "count=1"], {
      stdio: "ignore",
    });
    return { ended: new Promise((resolve) => child.on("exit", resolve)), kill: () => child.kill("SIGKILL") };
  }

  it("is dead after its death, which is no failure of the case", async () => {
    await onHostSetup(served({ verb: "kill-server" }), async (setup) => {
      setup.begin();
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(setup.hostSteps()).toEqual({ host: { "kill-server#1": { kind: "done" } } });
      expect(setup.counts()).toEqual({ server: 1 });
      expect(await readFrom(setup.filePath).ended).not.toBe(0);
      expect(await setup.failure()).toBeNull();
    });
  });

  it("answers nothing while it is stopped, and is not taken for stopped from outside", async () => {
    const scenario = served(
      { verb: "stop-server" },
      { verb: "await", name: "go" },
      { verb: "continue-server" },
    );
    await onHostSetup(scenario, async (setup) => {
      setup.begin();
      await vi.waitFor(() => expect(setup.counts()).toEqual({ server: 1 }), 10_000);
      const reader = readFrom(setup.filePath);
      expect(await within(reader.ended, 300)).toBe(false);
      expect(stoppedProcesses(join(setup.sourceDirectory, ".."))).toEqual([]);
      // It had no processor while it came to a stop, and would not have answered with one.
      expect(setup.serverHeldUpMs()).toBe(0);
      setup.raise("go", "test");
      expect(await reader.ended).toBe(0);
      expect(setup.serverHeldUpMs()).toBeGreaterThan(0);
      expect(await setup.settled(SETTLED_MS)).toBe(true);
      expect(await setup.failure()).toBeNull();
    });
  });
});
