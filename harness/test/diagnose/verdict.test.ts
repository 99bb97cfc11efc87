import { describe, expect, it } from "vitest";
import type { Server, VcpuFacts, VmFacts } from "../../src/diagnose/facts.ts";
import { activityOf, diagnose, serverState, type Verdict } from "../../src/diagnose/verdict.ts";
import {
  busyLooks,
  fileWith,
  fuseWith,
  HVA,
  looksWith,
  lookWith,
  pageWith,
  servedBy,
  vcpuWith,
  vmWith,
} from "../support/vm-facts.ts";

const verdictOf = (changes: Partial<VmFacts>): Verdict => diagnose(vmWith(changes), []).verdict;
const activity = (changes: Partial<VcpuFacts>, vm: Partial<VmFacts> = {}): string =>
  activityOf(vmWith(vm), vcpuWith(changes)).kind;
const short = fileWith({ sizeBytes: 0n });
const asleep = (waitsIn: string, stack: readonly string[], state = "D"): Partial<VcpuFacts> => ({
  looks: looksWith({ state, waitsIn }),
  stack,
});

describe("a vCPU", () => {
  it("loops where a page comes back again and again without being there", () => {
    expect(activity({ pages: [pageWith({ faults: 40, asked: 40, ready: 40 })] })).toBe("loops");
    // Between the halts it is seen asleep, too.
    expect(activity({ looks: busyLooks, pages: [pageWith({ ready: 20 })] })).toBe("loops");
  });

  it("does not loop where memory pressure takes a page away some times", () => {
    const page = pageWith({ faults: 19, asked: 19, ready: 19, hva: HVA });
    expect(activity({ looks: busyLooks, pages: [page] })).toBe("runs");
  });

  it("does not loop where the page came each time, and was taken away again however often", () => {
    const page = pageWith({ faults: 60, asked: 60, ready: 60, rip: 0x1000n, hva: HVA });
    const fixed = { pf_fixed: { before: 5, after: 70 } };
    const two = [vcpuWith({ looks: busyLooks, pages: [page] }), vcpuWith({ id: 1 })];
    expect(activity({ looks: busyLooks, pages: [page] }, { counters: fixed })).toBe("runs");
    // What others fix says nothing of one that does nothing else.
    expect(activity({ looks: busyLooks, pages: [page] }, { counters: fixed, vcpus: two })).toBe("loops");
    // What its own thread has mapped does.
    const mapped = [vcpuWith({ looks: busyLooks, pages: [{ ...page, fixed: 58 }] }), vcpuWith({ id: 1 })];
    expect(activity({ looks: busyLooks, pages: [{ ...page, fixed: 58 }] }, { vcpus: mapped })).toBe("runs");
    const seldom = [vcpuWith({ looks: busyLooks, pages: [{ ...page, fixed: 29 }] }), vcpuWith({ id: 1 })];
    expect(activity({ looks: busyLooks, pages: [{ ...page, fixed: 29 }] }, { vcpus: seldom })).toBe("loops");
    const few = { pf_fixed: { before: 5, after: 64 } };
    expect(activity({ looks: busyLooks, pages: [page] }, { counters: few })).toBe("loops");
    // Behind the end nothing is fixed that would last.
    const lost = pageWith({ ready: 3, hva: HVA + 0x1000n });
    expect(activity({ pages: [lost] }, { counters: fixed, files: [short] })).toBe("loops");
  });

  it("loops after few turns where the page cannot come", () => {
    const page = pageWith({ ready: 3, hva: HVA + 0x1000n });
    expect(activity({ pages: [page] }, { files: [short] })).toBe("loops");
    const dead = servedBy(fuseWith({ processes: [] }));
    expect(activity({ pages: [page] }, { files: [dead] })).toBe("loops");
    expect(activity({ pages: [page] }, { files: [fileWith()] })).toBe("halted");
  });

  it("does not loop where it talks to a device, or takes faults at many pages", () => {
    const one = pageWith({ faults: 5000, rip: 0x10n });
    expect(activity({ looks: busyLooks, pages: [one] })).toBe("loops");
    expect(activity({ looks: busyLooks, pages: [{ ...one, deviceFaults: 5000 }] })).toBe("runs");
    expect(activity({ looks: busyLooks, pages: [{ ...one, fixed: 5000 }] })).toBe("runs");
    expect(activity({ looks: busyLooks, pages: [{ ...one, rip: null }] })).toBe("runs");
    expect(activity({ looks: busyLooks, pages: [one, pageWith({ gpa: 0n, faults: 1 })] })).toBe("runs");
    const counters = { mmio_exits: { before: 1, after: 9 } };
    expect(activity({ looks: busyLooks, pages: [one] }, { counters })).toBe("runs");
  });

  it("waits for a page that has been asked for and is not there", () => {
    const page = pageWith({ faults: 9, repeated: 8, asked: 9 });
    expect(activity({ pages: [page] })).toBe("waits-for-page");
    // Between two halts it may be seen awake.
    const awake = { looks: busyLooks, pages: [{ ...page, rip: 0x10n }] };
    expect(activity(awake)).toBe("waits-for-page");
    expect(activity({ ...awake, pages: [...awake.pages, pageWith({ gpa: 0n, faults: 1 })] })).toBe("runs");
  });

  it("is halted, runs, waits, is outside, stopped, starved or gone", () => {
    expect(activity({})).toBe("halted");
    expect(activity({ looks: busyLooks })).toBe("runs");
    expect(activity(asleep("folio_wait_bit_common", ["folio_wait_bit_common", "filemap_fault"]))).toBe(
      "waits",
    );
    expect(activity(asleep("request_wait_answer", ["request_wait_answer"], "S"))).toBe("waits");
    const futex = looksWith({ call: { kind: "call", number: 202 }, waitsIn: "futex_wait_queue" });
    expect(activity({ looks: futex, stack: ["futex_wait_queue"] })).toBe("outside");
    expect(activity({ looks: looksWith({ state: "T" }) })).toBe("stopped");
    expect(activity({ looks: looksWith({ state: "R", call: { kind: "running" }, waitsIn: null }) })).toBe(
      "starved",
    );
    expect(activity({ looks: [{ atMs: 0, stat: null, waitsIn: null, call: null }] })).toBe("gone");
    expect(activity({ looks: looksWith({ waitsIn: null, call: null }), stack: null })).toBe("unknown");
  });

  it("whose KVM_RUN fails is nothing else", () => {
    expect(activity({ failures: { 14: 3 }, looks: busyLooks })).toBe("fails");
    expect(activity({ failures: { 22: 3 }, looks: busyLooks })).toBe("runs");
  });
});

describe("a server", () => {
  it("lives, is stopped or dead only where that is known", () => {
    const process = { pid: 7, name: "sshfs", state: "S" };
    const rows: readonly [Server, string][] = [
      [fuseWith(), "lives"],
      [fuseWith({ processes: [] }), "dead"],
      [fuseWith({ processes: [], isComplete: false }), "unknown"],
      [fuseWith({ processes: [], isExact: false }), "unknown"],
      [fuseWith({ isExact: false }), "unknown"],
      [fuseWith({ processes: [{ ...process, state: "T" }] }), "stopped"],
      [fuseWith({ isExact: false, processes: [{ ...process, state: "T" }] }), "stopped"],
      [fuseWith({ processes: [{ ...process, state: "T" }, process] }), "lives"],
      [{ kind: "remote" }, "unknown"],
      [{ kind: "outside" }, "unknown"],
    ];
    for (const [server, state] of rows) expect(serverState(server), JSON.stringify(server)).toBe(state);
  });
});

describe("the verdict", () => {
  /** In D at every look, with so many major faults until then. */
  const paging = (faults: readonly number[], changes: Parameters<typeof lookWith>[1] = {}) =>
    faults.map((majorFaults, index) =>
      lookWith(index * 100, { state: "D", waitsIn: "folio_wait_bit_common", majorFaults, ...changes }),
    );
  const swapStack = ["folio_wait_bit_common", "__folio_lock_or_retry", "do_swap_page"];

  it("calls a vCPU healthy that waits at every look, and gets its pages in between: heavy swapping", () => {
    const of = (sleptMs: number | null, fixed: number): Verdict =>
      verdictOf({
        vcpus: [vcpuWith({ looks: paging([4, 4, 4, 4, 4, 4]), sleptMs })],
        counters: { pf_fixed: { before: 10, after: 10 + fixed } },
      });
    expect(of(100, 3)).toMatchObject({ kind: "runs", severity: "fine" });
    // One wait, longer than all the looks; nothing was fixed; it cannot be seen.
    for (const verdict of [of(500, 3), of(100, 0), of(null, 3)])
      expect(verdict).toMatchObject({ kind: "waits-for-io", severity: "open" });
  });

  it("calls it healthy where the pages are the VMM's own, outside of KVM_RUN, by its thread's major faults", () => {
    const outside = { call: { kind: "no-call" } } as const;
    const of = (changes: Partial<VcpuFacts>, vm: Partial<VmFacts> = {}): Verdict =>
      verdictOf({
        ...vm,
        vcpus: [
          vcpuWith({
            looks: paging([7, 8, 8, 9, 9, 12], outside),
            stack: swapStack,
            sleptMs: 90,
            ...changes,
          }),
        ],
      });
    expect(of({})).toMatchObject({
      kind: "runs",
      severity: "fine",
      text: "healthy, and slow: 1 of 1 vCPUs wait for pages of swap, one after the other (5 major faults); each came so far",
    });
    // Asleep in the VMM at first, in D at last.
    const futex = lookWith(0, { call: { kind: "call", number: 202 }, waitsIn: "futex_wait", majorFaults: 7 });
    const later = paging([7, 8, 8, 9, 9, 12], outside).slice(1);
    expect(of({ looks: [futex, ...later] })).toMatchObject({ kind: "runs", severity: "fine" });
  });

  it("calls no wait healthy that may be the one that does not end", () => {
    const looks = paging([7, 8, 8, 9, 9, 12]);
    const of = (changes: Partial<VcpuFacts>, vm: Partial<VmFacts> = {}): string =>
      verdictOf({ ...vm, vcpus: [vcpuWith({ looks, stack: swapStack, sleptMs: 90, ...changes })] }).severity;
    expect(of({})).toBe("fine");
    // The same page since before the first look; no fault has ended; a server that is known not to answer.
    expect(of({ sleptMs: 500 })).toBe("open");
    expect(of({ sleptMs: 11_000 })).toBe("hung");
    expect(of({ looks: paging([7, 7, 7, 7, 7, 7]) })).toBe("open");
    const stopped = fuseWith({ processes: [{ pid: 7, name: "sshfs", state: "T" }] });
    expect(of({}, { files: [servedBy(stopped)] })).toBe("hung");
    expect(of({}, { files: [servedBy(fuseWith({ processes: [] }))] })).toBe("hung");
    // Beside one that loops or waits, what another one does is no comfort.
    const page = pageWith({ ready: 300, hva: HVA + 0x1000n });
    const swapping = vcpuWith({ looks, stack: swapStack, sleptMs: 90 });
    const beside = (other: VcpuFacts): string =>
      verdictOf({ vcpus: [swapping, other], files: [short] }).severity;
    expect(beside(vcpuWith({ id: 1, pages: [page] }))).toBe("hung");
    expect(beside(vcpuWith({ id: 1, looks: paging([7, 7, 7, 7, 7, 7]), sleptMs: 11_000 }))).toBe("hung");
    // Its loop is seen, whatever it waited for otherwise.
    expect(of({ pages: [page] }, { files: [short] })).toBe("hung");
  });

  it("does not take a VMM that waits for a page of its own for one that has paused its VM", () => {
    const asleep = { call: { kind: "call", number: 202 }, waitsIn: "futex_wait" } as const;
    const swapping = { call: { kind: "no-call" }, state: "D", waitsIn: "folio_wait_bit_common" } as const;
    const looks = [...looksWith(asleep), lookWith(600, swapping)];
    expect(verdictOf({ vcpus: [vcpuWith({ looks, stack: null })] })).toMatchObject({
      kind: "waits-for-io",
      text: expect.stringMatching(/in folio_wait_bit_common/),
    });
    expect(verdictOf({ vcpus: [vcpuWith({ looks: looksWith(asleep), stack: null })] }).kind).toBe(
      "stopped-by-vmm",
    );
  });

  it("names where a vCPU waited, not where it was when its stack was read", () => {
    const looks = looksWith({ state: "D", waitsIn: "folio_wait_bit_common" });
    const verdict = verdictOf({ vcpus: [vcpuWith({ looks, stack: ["kvm_vcpu_block"] })] });
    expect(verdict).toMatchObject({
      kind: "waits-for-io",
      text: expect.stringMatching(/ in folio_wait_bit_/),
    });
  });

  const looping = vcpuWith({ pages: [pageWith({ ready: 300, hva: HVA + 0x1000n })] });

  it("names the file of an endless loop, and what makes it long enough", () => {
    const verdict = verdictOf({ vcpus: [vcpuWith({ id: 1, tid: 102 }), looping], files: [short] });
    expect(verdict).toMatchObject({ kind: "endless-loop", severity: "hung", warnings: [] });
    expect(verdict.text).toMatch(
      /\/srv\/guest is too short: the page is at offset 0x1000, and the file is 0 bytes/,
    );
    expect(verdict.remedies[0]).toMatchObject({
      command: "truncate -s '>4194304' /proc/100/map_files/7f0000000000-7f0000400000",
    });
    expect(verdict.remedies[0]?.price).toMatch(/zeros/);
  });

  it("says how sure it is where the host address is not known", () => {
    const blind = vcpuWith({ pages: [pageWith({ ready: 300 })] });
    expect(verdictOf({ vcpus: [blind], files: [short] }).text).toMatch(
      /hva is not known, but 4 MiB of \/srv\/guest/,
    );
    const other = fileWith({ path: "/srv/other", inode: 13n, sizeBytes: 4096n });
    expect(verdictOf({ vcpus: [blind], files: [short, other] }).text).toMatch(
      /may be the cause: \/srv\/guest, \/srv\/other/,
    );
    expect(verdictOf({ vcpus: [blind] }).text).toMatch(/no file that is mapped explains it/);
  });

  it("names a dead server, and offers no growth", () => {
    const dead = servedBy(fuseWith({ processes: [] }));
    const verdict = verdictOf({ vcpus: [looping], files: [dead] });
    expect(verdict.text).toMatch(/file server of \/mnt is dead/);
    expect(verdict.remedies.map(({ command }) => command)).toEqual(["kill -KILL 100"]);
  });

  it("is a wait that is open as long as the server lives and the wait is young", () => {
    const waits = (sleptMs: number): VcpuFacts =>
      vcpuWith({ ...asleep("folio_wait_bit_common", ["folio_wait_bit_common"]), sleptMs });
    const files = [servedBy(fuseWith())];
    expect(verdictOf({ vcpus: [waits(900)], files })).toMatchObject({
      kind: "waits-for-io",
      severity: "open",
    });
    expect(verdictOf({ vcpus: [waits(60_000)], files })).toMatchObject({ severity: "hung" });
    expect(verdictOf({ vcpus: [waits(60_000)], files }).text).toMatch(
      /I\/O of \/mnt .* for 60 s .*server lives: 77/,
    );
    const stopped = servedBy(fuseWith({ processes: [{ pid: 77, name: "sshfs", state: "T" }] }));
    const verdict = verdictOf({ vcpus: [waits(900)], files: [stopped] });
    expect(verdict).toMatchObject({ kind: "waits-for-io", severity: "hung" });
    expect(verdict.remedies[0]?.command).toBe("kill -CONT 77");
  });

  it("takes the time from the worker that is to bring the page, where there is one alone", () => {
    const vm = vmWith({
      vcpus: [vcpuWith({ pages: [pageWith({ faults: 9, repeated: 8, asked: 9 })] })],
      files: [servedBy(fuseWith())],
    });
    const worker = { tid: 5, stack: ["folio_wait_bit_common", "async_pf_execute"], sleptMs: 60_000 };
    expect(diagnose(vm, [worker]).verdict).toMatchObject({ kind: "waits-for-io", severity: "hung" });
    expect(diagnose(vm, [worker, { ...worker, tid: 6 }]).verdict).toMatchObject({ severity: "open" });
    expect(diagnose(vm, [{ ...worker, sleptMs: 90 }]).verdict).toMatchObject({ severity: "open" });
  });

  it("knows a userfaultfd handler by the stack", () => {
    const vcpu = vcpuWith(asleep("handle_userfault", ["handle_userfault", "__handle_mm_fault"]));
    expect(verdictOf({ vcpus: [vcpu] }).text).toMatch(/a page that a userfaultfd handler owes/);
  });

  it("is that of the process where that is stopped, and of the VMM where it keeps its vCPUs out", () => {
    expect(verdictOf({ state: "T" })).toMatchObject({ kind: "process-stopped", severity: "hung" });
    const futex = looksWith({ call: { kind: "call", number: 202 }, waitsIn: "futex_wait_queue" });
    const vcpus = [vcpuWith({ looks: futex, stack: ["futex_wait_queue"] })];
    expect(verdictOf({ vcpus })).toMatchObject({ kind: "stopped-by-vmm", severity: "open" });
    expect(verdictOf({ vcpus, files: [short] })).toMatchObject({ kind: "stopped-by-vmm", severity: "hung" });
    expect(verdictOf({ vcpus: [] })).toMatchObject({ kind: "stopped-by-vmm" });
    // Between two looks they were in KVM_RUN: a guest with a timer, whose VMM waits for its halted vCPUs.
    const counters = { exits: { before: 100, after: 108 } };
    const comes = verdictOf({ vcpus, counters, files: [short] });
    expect(comes).toMatchObject({ kind: "runs", severity: "fine", text: expect.stringMatching(/8 exits/) });
    expect(comes.warnings.join()).toMatch(/mapped behind its end/);
    expect(verdictOf({ vcpus: [], seesCalls: false })).toMatchObject({ kind: "unknown", severity: "open" });
  });

  it("is health for a guest that is idle, works or spins", () => {
    expect(verdictOf({})).toMatchObject({ kind: "halted", severity: "fine", warnings: [] });
    const spins = verdictOf({ vcpus: [vcpuWith({ looks: busyLooks, stack: null })] });
    expect(spins).toMatchObject({ kind: "runs", severity: "fine" });
    expect(spins.text).toMatch(/busy without a fault/);
  });

  it("warns of what is fine now and will not stay so", () => {
    const verdict = verdictOf({ files: [short, servedBy(fuseWith({ processes: [] }))] });
    expect(verdict).toMatchObject({ kind: "halted", severity: "fine" });
    expect(verdict.warnings.join("\n")).toMatch(/4 MiB of \/srv\/guest are mapped behind its end/);
    expect(verdict.warnings.join("\n")).toMatch(/server of \/mnt\/guest is dead/);
  });
});
