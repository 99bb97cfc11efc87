import { describe, expect, it } from "vitest";
import type { GuestEvent } from "../../../../vmm/src/index.ts";
import { CaseTrace, guestTrace } from "../../../src/engines/vm/case-trace.ts";

const place = { rip: 1n, cpl: 3, task: 0, step: 0, gva: 0x40001000n, gpa: 0x40001000n, hva: 0x7f00n };

describe("CaseTrace", () => {
  it("writes what happened to the window in kind, actor and detail", () => {
    const trace = new CaseTrace();
    trace.fenced({ kind: "fence", hva: 0x1000n, lengthBytes: 4096n });
    trace.fenced({ kind: "unfence", hva: 0x1000n, lengthBytes: 4096n });
    trace.guarded({ kind: "recall", atMs: 1, threat: { fromBytes: 0n, by: "lease" } });
    trace.guarded({ kind: "settle", atMs: 2, sizeBytes: 8192n });
    trace.heldBy({ kind: "restored", hva: 0x1000n, lengthBytes: 4096, detail: "the file has 8192 bytes" });
    trace.heldBy({ kind: "recalled", hva: 0x1000n, lengthBytes: 4096, detail: "lease" });
    trace.swappedOut(8192);
    trace.unguarded("no lease here");
    expect(trace.events.map(({ kind, actor, detail }) => [kind, actor, detail])).toEqual([
      ["unmap", "fence", "4096 bytes from hva 0x1000: PROT_NONE"],
      ["remap", "fence", "4096 bytes from hva 0x1000: readable and writable again"],
      ["lease-break", "guard", "recall from 0 on: lease"],
      ["remap", "guard", "the file has 8192 bytes"],
      ["map", "vmm", "restored: 4096 bytes from hva 0x1000: the file has 8192 bytes"],
      ["unmap", "vmm", "recalled: 4096 bytes from hva 0x1000: lease"],
      ["swap-out", "vmm", "2 pages; mincore finds none of them in memory"],
      ["guard-refused", "guard", "no lease here"],
    ]);
  });

  it("writes what the vCPUs reported, with the place", () => {
    const trace = new CaseTrace();
    const exit = {
      kind: "memory-fault",
      errno: "EFAULT",
      flags: 0n,
      gpa: 0x1000n,
      sizeBytes: 4096n,
    } as const;
    trace.looping({
      type: "looping",
      cpu: 0,
      proof: "faults",
      faultsPerSecond: 1234.5,
      overMs: 100.4,
      place,
    });
    trace.stopped({ type: "stopped", cpu: 0, exit, place: null, reason: "" });
    trace.resumed("vmm");
    expect(trace.events.map(({ kind, actor, gpa, detail }) => [kind, actor, gpa, detail])).toEqual([
      ["fault", "kvm", 0x40001000n, "1235 faults/s over 100 ms"],
      [
        "exit",
        "kvm",
        null,
        '{"kind":"memory-fault","errno":"EFAULT","flags":"0x0","gpa":"0x1000","sizeBytes":"0x1000"}',
      ],
      ["exit", "vmm", null, "KVM_RUN again"],
    ]);
  });
});

describe("guestTrace", () => {
  const event: GuestEvent = {
    kind: "exception",
    cpu: 0,
    task: 1,
    vector: 14,
    cpl: 3,
    errorCode: 4n,
    cr2: 0x40001000n,
    rip: 0x41000n,
    tsc: 2_000_000n,
  };

  it("ties the guest's time stamps to the host's clock, and names the actor", () => {
    const clock = { tsc: 1_000_000n, atMs: 500, tscKhz: 1000 };
    expect(guestTrace([event], ["victim", "second"], clock)).toEqual([
      {
        kind: "exception",
        actor: "second",
        atMonotonicMs: 1500,
        gpa: null,
        detail: "exception vector 14 error 0x4 address 0x40001000 rip 0x41000 cpl 3",
      },
    ]);
  });

  it.each<[GuestEvent["kind"], string, string]>([
    ["apf-ready", "apf-ready", "token 0x40001000 rip 0x41000 cpl 3"],
    ["sigbus", "sigbus", "si_code 4 address 0x40001000 rip 0x41000 cpl 3"],
    ["fixup", "fixup", "address 0x40001000 rip 0x41000 cpl 3"],
    ["machine-check", "exception", "machine-check vector 14 error 0x4 address 0x40001000 rip 0x41000 cpl 3"],
  ])("has %s as %s", (kind, traced, detail) => {
    expect(guestTrace([{ ...event, kind, task: 9 }], [], null)[0]).toMatchObject({
      kind: traced,
      actor: "guest",
      detail,
    });
  });
});
