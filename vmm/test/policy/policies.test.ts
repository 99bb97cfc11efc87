/** Each policy on the real thing: what it injects is what the guest's own handler reports, for the access it was. */
import { ftruncateSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  channelLayout,
  cpuFeatures,
  type GuestEvent,
  Kvm,
  loadImage,
  type PolicyName,
  type ProgramStep,
  supportedCpuid,
  type TaskProgram,
  type VcpuMessage,
} from "../../src/index.ts";
import { access, counting, FILE_BYTES, type Outcome, runCase, type Setup, signal } from "../support/case.ts";
import { kvmOrReason } from "../support/kvm.ts";

const kvm = kvmOrReason();

/** Touches page 1 before and after the host truncates the file to nothing; then another page, to show it lives. */
function touched(
  policy: PolicyName,
  step: ProgramStep,
  task: Partial<TaskProgram> = {},
  setup: Partial<Setup> = {},
  others: readonly TaskProgram[] = [counting],
): Promise<Outcome> {
  const content = new Uint8Array(FILE_BYTES).fill(0x41);
  content.set([0xb8, 1, 2, 3, 4, 0xc3], 0x1000);
  const steps = [step, signal("signal", 0), signal("await", 1), step, access("load", 1, 0x100000)];
  return runCase(
    {
      lapicInKernel: false,
      hltInGuest: false,
      asyncPageFaults: "off",
      nmiIsSigbus: policy === "nmi",
      pageFaultIsError: policy === "inject-pf",
      policy,
      ...setup,
    },
    content,
    [{ cpl: 3, steps, ...task }, ...others],
    (number, file, raise) => {
      if (number !== 0) return;
      ftruncateSync(file, 0);
      raise(1);
    },
  );
}

const handled = (outcome: Outcome) => outcome.messages.filter((message) => message.type === "handled");
const ended = (messages: readonly VcpuMessage[]) => messages.find((message) => message.type === "ended");
const statusOf = (outcome: Outcome, step: number) => outcome.results[0]?.[step];
const reports = (outcome: Outcome) => outcome.events.filter(({ kind }) => kind !== "sigbus");
const only = (events: readonly GuestEvent[]) => {
  expect(events).toHaveLength(1);
  return events[0];
};

const GPA = 0x40001000n;
const accesses: Record<string, { step: ProgramStep; rip: string | bigint; write: boolean; fetch?: boolean }> =
  {
    "a load of 8 bytes": { step: access("load", 8, 0x1000), rip: "load/8", write: false },
    "a load of 1 byte": { step: access("load", 1, 0x1000), rip: "load/1", write: false },
    "a store of 8 bytes": { step: access("store", 8, 0x1000, 5n), rip: "store/8", write: true },
    "a store of 16 bytes": { step: access("store", 16, 0x1000, 5n), rip: "store/16", write: true },
    "an atomic of 8 bytes": { step: access("atomic", 8, 0x1000), rip: "atomic/8", write: true },
    "a string copy out of the window": {
      step: access("copy-from", 24, 0x1000),
      rip: "copy-from",
      write: false,
    },
    "an instruction fetch": { step: access("fetch", 4, 0x1000), rip: GPA, write: false, fetch: true },
  };

describe.skipIf(kvm.reason !== null)(`policies on /dev/kvm${kvm.note}`, () => {
  const image = kvm.reason === null ? loadImage() : null;
  for (const [name, { step, rip, write, fetch }] of Object.entries(accesses)) {
    const at = () => (typeof rip === "bigint" ? rip : (image?.accessInstructions.get(rip) ?? 0n));

    it(`inject-pf tells ${name} with error code, CR2, rip and CPL, and ends the task by SIGBUS`, async () => {
      const outcome = await touched("inject-pf", step);
      const errorCode = BigInt(4 | (write ? 2 : 0) | (fetch ? 16 : 0));
      const report = { kind: "exception", vector: 14, cpl: 3, task: 0, errorCode, cr2: GPA, rip: at() };
      expect(only(reports(outcome))).toMatchObject(report);
      expect(statusOf(outcome, 3)).toMatchObject({ status: "sigbus", number: channelLayout.SIGBUS_ADRERR });
      expect(statusOf(outcome, 4)?.status).toBe("not-reached");
      expect(handled(outcome)).toHaveLength(1);
      expect(ended(outcome.messages)).toMatchObject({ why: { kind: "finished" } });
    });

    it(`inject-mce tells ${name} as a machine check with the physical address`, async () => {
      const outcome = await touched("inject-mce", step);
      const report = { kind: "machine-check", vector: 18, cpl: 3, task: 0, cr2: GPA, rip: at() };
      expect(only(reports(outcome))).toMatchObject(report);
      expect(statusOf(outcome, 3)).toMatchObject({
        status: "sigbus",
        number: channelLayout.SIGBUS_MCEERR_AR,
      });
    });

    it(`inject-ve tells ${name} with its exit qualification and physical address`, async () => {
      const outcome = await touched("inject-ve", step);
      const errorCode = 0x80n | (fetch ? 4n : write ? 2n : 1n);
      const report = { kind: "virtualization-exception", vector: 20, cpl: 3, errorCode, cr2: GPA, rip: at() };
      expect(only(reports(outcome))).toMatchObject(report);
      expect(statusOf(outcome, 3)).toMatchObject({ status: "sigbus", number: channelLayout.SIGBUS_ADRERR });
    });

    it(`inject-pv tells ${name} by an interrupt that arrives at the instruction`, async () => {
      const outcome = await touched("inject-pv", step);
      expect(only(reports(outcome))).toMatchObject({
        kind: "pv-error",
        cpl: 3,
        task: 0,
        cr2: GPA,
        rip: at(),
      });
      expect(statusOf(outcome, 3)).toMatchObject({ status: "sigbus", number: channelLayout.SIGBUS_ADRERR });
    });

    it(`nmi ends the task at ${name}, without an address`, async () => {
      const outcome = await touched("nmi", step);
      expect(only(reports(outcome))).toMatchObject({ kind: "nmi", vector: 2, cpl: 3, cr2: 0n, rip: at() });
      expect(statusOf(outcome, 3)).toMatchObject({ status: "sigbus", number: channelLayout.SIGBUS_ADRERR });
    });
  }

  for (const [policy, kind] of [
    ["inject-pf", "exception"],
    ["inject-mce", "machine-check"],
    ["inject-ve", "virtualization-exception"],
    ["inject-pv", "pv-error"],
    ["nmi", "nmi"],
  ] as const) {
    it(`${policy} tells each of two vCPUs of its own access`, async () => {
      const first = [
        access("load", 8, 0x1000),
        signal("signal", 0),
        signal("await", 1),
        access("load", 8, 0x1000),
      ];
      const second = [signal("await", 1), access("store", 8, 0x3000, 5n)];
      const outcome = await runCase(
        {
          lapicInKernel: false,
          hltInGuest: false,
          asyncPageFaults: "off",
          nmiIsSigbus: policy === "nmi",
          pageFaultIsError: policy === "inject-pf",
          policy,
        },
        new Uint8Array(FILE_BYTES).fill(0x41),
        [
          { cpl: 3, steps: first },
          { cpl: 3, cpu: 1, steps: second },
        ],
        (_number, file, raise) => {
          ftruncateSync(file, 0);
          raise(1);
        },
      );
      const told = reports(outcome).toSorted((a, b) => a.cpu - b.cpu);
      const rips = [image?.accessInstructions.get("load/8"), image?.accessInstructions.get("store/8")];
      const address = (offset: bigint) => (policy === "nmi" ? 0n : 0x40000000n + offset);
      expect(told).toMatchObject([
        { kind, cpu: 0, task: 0, cpl: 3, rip: rips[0], cr2: address(0x1000n) },
        { kind, cpu: 1, task: 1, cpl: 3, rip: rips[1], cr2: address(0x3000n) },
      ]);
      expect(statusOf(outcome, 3)?.status).toBe("sigbus");
      expect(outcome.results[1]?.[1]?.status).toBe("sigbus");
    });
  }

  for (const [verb, policy, error] of [
    ["load", "inject-pf", 4n],
    ["store", "inject-pf", 6n],
    ["load", "inject-ve", 0x81n],
  ] as const) {
    it(`${policy} tells a ${verb} across two pages of the page that is gone, not of its first byte`, async () => {
      const outcome = await runCase(
        {
          lapicInKernel: false,
          hltInGuest: false,
          asyncPageFaults: "off",
          pageFaultIsError: true,
          policy,
        },
        new Uint8Array(FILE_BYTES).fill(0x41),
        [{ cpl: 3, steps: [signal("signal", 0), signal("await", 1), access(verb, 8, 0xffc, 5n)] }],
        (_number, file, raise) => {
          ftruncateSync(file, 0x1000);
          raise(1);
        },
      );
      expect(only(reports(outcome))).toMatchObject({ cpl: 3, errorCode: error, cr2: GPA });
      expect(outcome.results[0]?.[2]?.status).toBe("sigbus");
    });
  }

  it("tells a task whose stack is gone at its PUSH, and a handler has no stack to run on", async () => {
    const push = { ...access("push", 8, 0x1000, 7n) };
    const outcome = await touched("inject-pf", push, { onSigbus: "next-step" });
    const rip = image?.accessInstructions.get("push");
    expect(only(reports(outcome))).toMatchObject({ vector: 14, cpl: 3, errorCode: 6n, cr2: GPA, rip });
    expect(statusOf(outcome, 0)?.bytes.subarray(0, 8)).toEqual(new Uint8Array([7, 0, 0, 0, 0, 0, 0, 0]));
    expect([3, 4].map((step) => statusOf(outcome, step)?.status)).toEqual(["started", "not-reached"]);
    expect(outcome.states[0]).toBe("killed");
  });

  it("reaches a task with interrupts off, but for the interrupt", async () => {
    for (const policy of ["inject-pf", "inject-mce", "inject-ve", "nmi"] as const) {
      const outcome = await touched(policy, access("load", 8, 0x1000), { interruptsOff: true }, {}, []);
      expect([policy, statusOf(outcome, 3)?.status]).toEqual([policy, "sigbus"]);
    }
    const outcome = await touched("inject-pv", access("load", 8, 0x1000), { interruptsOff: true }, {}, []);
    expect(outcome.messages.find((message) => message.type === "stopped")).toMatchObject({
      reason: "interrupts are off: the error cannot be delivered",
    });
  });

  describe("with an NMI before the handler reads", () => {
    it("loses the address of a #PF where the NMI's own fault overwrites CR2: the task dies untold", async () => {
      const outcome = await touched("inject-pf", access("load", 8, 0x1000), {}, { nmi: "cr2-lost" });
      expect(outcome.events.map(({ kind, cr2, cpl }) => [kind, cr2, cpl])).toEqual([
        ["nmi", 0n, 0],
        ["exception", 16n, 0],
        ["fixup", 16n, 0],
        ["exception", 16n, 3],
      ]);
      expect(statusOf(outcome, 3)?.status).toBe("started");
      expect(outcome.states[0]).toBe("killed");
    });

    for (const [policy, kind] of [
      ["inject-pf", "exception"],
      ["inject-mce", "machine-check"],
      ["inject-ve", "virtualization-exception"],
      ["inject-pv", "pv-error"],
    ] as const) {
      it(`${policy} tells the same where it is saved`, async () => {
        const outcome = await touched(policy, access("load", 8, 0x1000), {}, { nmi: "saved" });
        expect(outcome.nmiCount).toBe(1);
        const told = outcome.events.filter(({ cpl }) => cpl === 3);
        expect(told.map((event) => [event.kind, event.cr2])).toEqual([
          [kind, GPA],
          ["sigbus", GPA],
        ]);
        expect(statusOf(outcome, 3)?.status).toBe("sigbus");
      });
    }
  });

  // VAL, UC, EN, MISCV, ADDRV, and on Intel S and AR; data load (QEMU: kvm_mce_inject(), cpu_x86_inject_mce()).
  for (const [cpuVendor, status] of [
    ["intel", 0xbd80_0000_0000_0134n],
    ["amd", 0xbc00_0000_0000_0134n],
  ] as const) {
    it(`inject-mce has the form of a processor by ${cpuVendor}, and a guest that acts on either`, async () => {
      for (const setup of [{ cpuVendor }, { cpuVendor, lapicInKernel: true, hltInGuest: true }]) {
        const outcome = await touched("inject-mce", access("load", 8, 0x1000), {}, setup);
        const told = only(reports(outcome));
        expect(told).toMatchObject({ kind: "machine-check", vector: 18, cpl: 3, task: 0, cr2: GPA });
        expect(told?.errorCode.toString(16)).toBe(status.toString(16));
        expect(statusOf(outcome, 3)).toMatchObject({
          status: "sigbus",
          number: channelLayout.SIGBUS_MCEERR_AR,
        });
      }
    });
  }

  it("inject-pf gets nowhere with a guest that takes the #PF for spurious, as Linux does, and stops", async () => {
    const outcome = await touched("inject-pf", access("load", 8, 0x1000), {}, { pageFaultIsError: false });
    expect(outcome.messages.find((message) => message.type === "stopped")).toMatchObject({
      exit: { kind: "error", errno: "EFAULT" },
      reason: "no progress after 8 times inject-pf",
    });
    expect(reports(outcome)).toHaveLength(8);
  });

  it("remap-zero lets the guest go on with zeros: data that was never written", async () => {
    const outcome = await touched("remap-zero", access("load", 8, 0x1000), {}, {}, []);
    expect(statusOf(outcome, 3)).toMatchObject({ status: "done" });
    expect(statusOf(outcome, 3)?.bytes.subarray(0, 8)).toEqual(new Uint8Array(8));
    expect(reports(outcome)).toEqual([]);
  });

  it("poison becomes one BUS_MCEERR_AR for the vCPU's thread and one machine check for the guest", async () => {
    const outcome = await touched("poison", access("load", 8, 0x1000));
    expect(handled(outcome).map((one) => one.type === "handled" && one.detail.split(" ")[0])).toEqual([
      "poisoned",
      "BUS_MCEERR_AR",
    ]);
    expect(only(reports(outcome))).toMatchObject({ kind: "machine-check", cr2: GPA, cpl: 3 });
    expect(statusOf(outcome, 3)).toMatchObject({ status: "sigbus", number: channelLayout.SIGBUS_MCEERR_AR });
  });

  it("lets a task with a handler go on, and a bystander with it", async () => {
    const outcome = await touched("inject-pf", access("load", 8, 0x1000), { onSigbus: "next-step" });
    // Step 4 touches another page of the truncated file: a second SIGBUS, and the task still ends in order.
    expect(outcome.results[0]?.map(({ status }) => status)).toEqual([
      "done",
      "not-reached",
      "not-reached",
      "sigbus",
      "sigbus",
    ]);
    expect(handled(outcome)).toHaveLength(2);
    expect(outcome.counts[1]).toBeGreaterThan(0n);
  });

  it("works beside an in-kernel APIC whose HLT exits are off, too", async () => {
    for (const policy of ["inject-pf", "inject-mce", "inject-ve", "inject-pv", "nmi"] as const) {
      const setup = { lapicInKernel: true, hltInGuest: true };
      const outcome = await touched(policy, access("load", 8, 0x1000), {}, setup);
      expect([policy, statusOf(outcome, 3)?.status]).toEqual([policy, "sigbus"]);
    }
  });

  it("has an address in the middle of a copy: where it had got to", async () => {
    // 0x0ff8 + 16 crosses into the lost page only if the first survives: truncate keeps page 0.
    const content = new Uint8Array(FILE_BYTES).fill(0x41);
    const outcome = await runCase(
      {
        lapicInKernel: false,
        hltInGuest: false,
        asyncPageFaults: "off",
        policy: "inject-pf",
        pageFaultIsError: true,
      },
      content,
      [{ cpl: 3, steps: [signal("signal", 0), signal("await", 1), access("copy-from", 16, 0xff8)] }],
      (_n, file, raise) => {
        ftruncateSync(file, 0x1000);
        raise(1);
      },
    );
    expect(only(reports(outcome))).toMatchObject({ kind: "exception", vector: 14, cr2: GPA });
  });
});

const avx = kvm.reason === null && readAvx();

function readAvx(): boolean {
  const device = Kvm.open();
  const found = cpuFeatures(supportedCpuid(device)).avx;
  device.close();
  return found;
}

describe.skipIf(!avx)(`wide accesses${kvm.note || (avx ? "" : " (skipped: this KVM offers no AVX)")}`, () => {
  it("report the store's own instruction", async () => {
    const outcome = await touched("inject-pf", access("store", 32, 0x1000, 9n));
    expect(only(reports(outcome))).toMatchObject({ rip: loadImage().accessInstructions.get("store/32") });
  });
});
