/** The micro-guest as a client of paravirtual async page faults, on events that KVM really sends. */
import { ftruncateSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { viewOf } from "../../../sys/src/index.ts";
import { channelLayout, type Machine, machineLayout, type TaskProgram } from "../../src/index.ts";
import { access, counting, FILE_BYTES, type Outcome, runCase, type Setup, signal } from "../support/case.ts";
import { kvmOrReason } from "../support/kvm.ts";

const kvm = kvmOrReason();
const WAKE_ALL = 0xffffffffn;
const apf = { lapicInKernel: true, hltInGuest: false, asyncPageFaults: "on" } as const;
const kill = (task: number) => ({ verb: "kill", size: 0, address: BigInt(task), value: 0n }) as const;

/**
 * Task 0 loads from a page that the host has truncated away: not present, ready, and again. Signal 2 is raised when it has
 * been told so.
 */
function truncated(setup: Partial<Setup>, others: readonly TaskProgram[]): Promise<Outcome> {
  let machine: Machine | null = null;
  let look: NodeJS.Timeout | undefined;
  const victim = [
    access("load", 8, 0x1000),
    signal("signal", 0),
    signal("await", 1),
    access("load", 8, 0x1000),
  ];
  return runCase(
    { ...apf, ...setup },
    new Uint8Array(FILE_BYTES).fill(0x41),
    [{ cpl: 3, steps: victim }, ...others],
    (number, file, raise) => {
      if (number !== 0) return;
      ftruncateSync(file, 0);
      raise(1);
      look = setInterval(() => {
        if ((machine?.channel.apfNotPresentCount ?? 0) > 0) raise(2);
      }, 1);
    },
    (built) => {
      machine = built;
    },
    // The guest's memory is gone by then: nobody looks any more.
  ).finally(() => clearInterval(look));
}

/** What a KVM with Goyal's proposal would write before page-ready: KVM of today leaves the word alone. */
function writeReadyFlags(machine: Machine, flags: number): void {
  const ram = viewOf(machine.ramAddress, Number(machineLayout.RAM_BYTES));
  const at = Number(machineLayout.APF_AREA_ADDRESS) + machineLayout.offsetofApfReadyFlags;
  new DataView(ram.buffer, ram.byteOffset).setUint32(at, flags, true);
}

const ended = (outcome: Outcome) =>
  outcome.messages.flatMap((one) => (one.type === "ended" ? [one.why.kind] : []));

describe.skipIf(kvm.reason !== null)(`async page faults in the micro-guest${kvm.note}`, () => {
  it("gets a wake-all when it enables them, before anything else", async () => {
    const outcome = await runCase(apf, new Uint8Array(FILE_BYTES), [
      { cpl: 3, steps: [access("load", 8, 0)] },
      counting,
    ]);
    expect(outcome.events[0]).toMatchObject({ kind: "apf-ready", cr2: WAKE_ALL });
    expect(outcome.earlyTokens).toBe(0);
  });

  it("keeps a token that is woken before its task sleeps, and uses it up", async () => {
    const outcome = await truncated({ sleepsLate: true }, []);
    const kinds = outcome.events.filter(({ cr2 }) => cr2 !== WAKE_ALL).map(({ kind }) => kind);
    // Page-ready came inside the handler of page-not-present: the task never slept, and the token is gone again.
    expect(kinds.slice(0, 4)).toEqual(["apf-not-present", "apf-ready", "apf-not-present", "apf-ready"]);
    expect(outcome.events.filter(({ kind, cpl }) => kind === "apf-ready" && cpl === 0)).not.toEqual([]);
    expect(outcome.states[0]).toBe("ready");
    expect(outcome.earlyTokens).toBeLessThanOrEqual(1);
  });

  it("kills a task that waits when it is woken, and leaks no token", async () => {
    const outcome = await truncated({}, [{ cpl: 3, steps: [signal("await", 2), kill(0)] }]);
    expect(ended(outcome)).toEqual(["finished"]);
    expect(outcome.states).toEqual(["killed", "done"]);
    expect(outcome.results[0]?.[3]?.status).toBe("started");
    expect(outcome.earlyTokens).toBe(0);
    expect(outcome.outstanding).toBe(0);
  });

  it("takes an error in page-ready for SIGBUS at the access that waited", async () => {
    let machine: Machine | null = null;
    const outcome = await runCase(
      { ...apf, pageReadyErrors: true },
      new Uint8Array(FILE_BYTES).fill(0x41),
      [{ cpl: 3, steps: [signal("signal", 0), signal("await", 1), access("load", 8, 0x1000)] }, counting],
      (_number, file, raise) => {
        ftruncateSync(file, 0);
        if (machine !== null) writeReadyFlags(machine, machineLayout.PAGE_ERROR);
        raise(1);
      },
      (built) => {
        machine = built;
      },
    );
    expect(ended(outcome)).toEqual(["finished"]);
    expect(outcome.results[0]?.[2]).toMatchObject({ status: "sigbus", number: channelLayout.SIGBUS_ADRERR });
  });

  it("keeps an error that comes before its task sleeps", async () => {
    let machine: Machine | null = null;
    const outcome = await runCase(
      { ...apf, pageReadyErrors: true, sleepsLate: true },
      new Uint8Array(FILE_BYTES).fill(0x41),
      [{ cpl: 3, steps: [signal("signal", 0), signal("await", 1), access("load", 8, 0x1000)] }, counting],
      (_number, file, raise) => {
        ftruncateSync(file, 0);
        if (machine !== null) writeReadyFlags(machine, machineLayout.PAGE_ERROR);
        raise(1);
      },
      (built) => {
        machine = built;
      },
    );
    expect(ended(outcome)).toEqual(["finished"]);
    expect(outcome.apfNotPresentCount).toBe(1);
    expect(outcome.results[0]?.[2]).toMatchObject({ status: "sigbus", number: channelLayout.SIGBUS_ADRERR });
    expect(outcome.earlyTokens).toBe(0);
  });

  it("outlives a hundred tasks that fault at once", async () => {
    const steps = (n: number) => [signal("await", 1), access("load", 8, 0x1000 * n)];
    const crowd = Array.from({ length: 100 }, (_, n): TaskProgram => ({ cpl: 3, steps: steps(n) }));
    const starter: TaskProgram = { cpl: 3, steps: [signal("signal", 0)] };
    const outcome = await runCase(
      {
        lapicInKernel: false,
        hltInGuest: false,
        asyncPageFaults: "off",
        pageFaultIsError: true,
        policy: "inject-pf",
      },
      new Uint8Array(FILE_BYTES).fill(0x41),
      [...crowd, starter, counting],
      (_number, file, raise) => {
        ftruncateSync(file, 0);
        raise(1);
      },
    );
    expect(ended(outcome)).toEqual(["finished"]);
    const told = outcome.events.filter(({ kind }) => kind === "exception");
    expect(told.map(({ task, cr2 }) => [task, cr2]).toSorted((a, b) => Number(a[0]) - Number(b[0]))).toEqual(
      crowd.map((_, n) => [n, 0x40000000n + 0x1000n * BigInt(n)]),
    );
    expect(outcome.states.slice(0, 100).every((state) => state === "killed")).toBe(true);
  });
});
