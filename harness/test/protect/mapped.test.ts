/** What `protect` sees of a process that ends while it is looked at. */
import { describe, expect, it } from "vitest";
import type { Answer, Host } from "../../src/diagnose/host.ts";
import { Mapped } from "../../src/protect/mapped.ts";

const PID = 4242;
const failed = (code: string): Answer<never> => ({ kind: "failed", code });

/** A process whose maps answer `maps`, and that is in `after` once they were asked for. */
function hostOf(maps: Answer<string>, after: "S" | "Z"): Host {
  let state = "S";
  const none = () => failed("ENOENT");
  return {
    nowMs: () => 0,
    workedMs: () => 0,
    sleep: () => Promise.resolve(),
    read: (path) => {
      if (path !== `/proc/${PID}/stat`) return none();
      return { kind: "ok", value: `${PID} (vmm) ${state}${" 0".repeat(18)} 77${" 0".repeat(30)}` };
    },
    readOfMemory: () => {
      state = after;
      return Promise.resolve(maps);
    },
    list: none,
    link: none,
    status: () => Promise.resolve(none()),
    trace: () => {
      throw new Error("nobody traces");
    },
  };
}

describe("a process that is watched", () => {
  it.each<[string, Answer<string>, "S" | "Z", { ended: readonly number[]; unseen: readonly unknown[] }]>([
    ["has ended, where it ends while its maps are read", failed("ESRCH"), "Z", { ended: [PID], unseen: [] }],
    ["has ended, whatever its maps were", failed("EACCES"), "Z", { ended: [PID], unseen: [] }],
    ["is on its way out, where it has no memory", failed("ESRCH"), "S", { ended: [], unseen: [] }],
    [
      "is unseen, where it hangs",
      failed("ETIMEDOUT"),
      "S",
      { ended: [], unseen: [{ pid: PID, why: "ETIMEDOUT" }] },
    ],
  ])("%s", async (_what, maps, after, looked) => {
    const mapped = new Mapped(hostOf(maps, after));
    expect(mapped.watch(PID)).toBe(true);
    expect(await mapped.look()).toEqual({ files: [], ...looked });
  });
});
